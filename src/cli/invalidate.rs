//! `cachewarden invalidate`: has the running daemon remove keys, or give up removing them.

use super::client::Reply;
use super::{ask, check, exit};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Remove keys, or what matches patterns, through the running daemon
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only say how many keys would be removed
    #[arg(long)]
    dry_run: bool,
    /// Give up sweeps that the daemon has under way, and remove nothing: those whose patterns match, '*' for all. What they
    /// have not removed is given out again
    #[arg(long, conflicts_with = "dry_run")]
    cancel: bool,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Keys (courses:42) and patterns ('courses:*'; quote them, or the shell reads them first)
    #[arg(required = true, value_name = "PATTERN-OR-KEY")]
    targets: Vec<OsString>,
}

pub(super) fn run(path: &Path, args: Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (command, name, verb) = if args.dry_run {
        ("CACHE.COUNT", "would_remove", "this would remove")
    } else if args.cancel {
        ("CACHE.CANCEL", "cancelled", "cancelled")
    } else {
        ("CACHE.INVALIDATE", "removed", "removed")
    };
    let mut words = vec![command.as_bytes().to_vec()];
    words.extend(args.targets.into_iter().map(OsString::into_vec));
    let (one, many) = match args.cancel {
        true => ("sweep", "sweeps"),
        false => ("key", "keys"),
    };
    match ask::ask(&config, &words) {
        Ok(Reply::Int(count)) if args.json => println!("{{\"{name}\":{count}}}"),
        Ok(Reply::Int(1)) => println!("{verb} 1 {one}"),
        Ok(Reply::Int(count)) => println!("{verb} {count} {many}"),
        Ok(other) => {
            exit::tell(format_args!(
                "the daemon answered something unexpected: {other}"
            ));
            return exit::FAILED;
        }
        Err(error) => {
            exit::tell(&error);
            return error.exit_code();
        }
    }
    0
}
