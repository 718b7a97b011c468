//! What a visitor may try, with real ports; and waiting until the visitor has seen enough.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::DemoError;
use super::chapters;
use super::shop::Shop;
use super::steps::Act;

/// Writes the steps of the tour as commands to copy. Details, and what breaks servers, are left to the tour.
///
/// # Errors
/// [`DemoError::Terminal`] when the screen cannot be written to.
pub fn invite(shop: &Shop, screen: &mut dyn Write) -> Result<(), DemoError> {
    commands(shop, screen).map_err(|source| DemoError::Terminal {
        action: "write to the screen",
        source,
    })
}

fn commands(shop: &Shop, screen: &mut dyn Write) -> io::Result<()> {
    let (daemon, redis) = (shop.daemon_port(), shop.redis.port());
    writeln!(
        screen,
        "cachewarden listens on 127.0.0.1:{daemon}, in front of a shop of almost 200,000 rows."
    )?;
    writeln!(screen, "Its configuration: {}", shop.config().display())?;
    for chapter in chapters::all() {
        if chapter
            .steps
            .iter()
            .any(|step| matches!(step.act, Act::Break(..)))
        {
            continue;
        }
        writeln!(screen, "\n# {}", chapter.title)?;
        for step in chapter.steps.iter().filter(|step| step.invites) {
            match step.act {
                Act::Ask(words) => writeln!(screen, "redis-cli -p {daemon} {}", quoted(words))?,
                Act::AskRedis(words) => writeln!(
                    screen,
                    "redis-cli -p {redis} {}   # Redis itself",
                    quoted(words)
                )?,
                Act::Sql(sql) => writeln!(screen, "{}", shop.psql_command(sql))?,
                Act::Break(..) => {}
            }
        }
    }
    writeln!(
        screen,
        "\n`cachewarden demo --tour` walks all of this and more by itself, and breaks the servers too."
    )?;
    writeln!(screen, "Ctrl-C ends the demo and removes everything.")?;
    screen.flush()
}

/// Words as a shell reads them.
fn quoted(words: &[&str]) -> String {
    let plain = |word: &&str| {
        word.chars()
            .all(|c| c.is_ascii_alphanumeric() || ":.-_".contains(c))
    };
    let quote = |word: &&str| {
        if plain(word) {
            (*word).to_owned()
        } else {
            format!("'{word}'")
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Blocks until SIGINT, SIGTERM or SIGHUP (the terminal is closed).
///
/// # Errors
/// [`DemoError::Terminal`] when the signals cannot be caught.
pub fn wait_for_ctrl_c() -> Result<(), DemoError> {
    let wait = || {
        let (mut read, write) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        read.read_exact(&mut [0])
    };
    wait().map_err(|source| DemoError::Terminal {
        action: "wait for Ctrl-C",
        source,
    })
}
