//! `cachewarden demo` shows the daemon on servers of its own, and leaves nothing behind.
//!
//! [`Shop::open`] starts the servers and loads the shop; the caller starts the daemon on [`Shop::config`]; then the
//! [`mod@tour`] walks through what `chapters/` lists, or [`mod@invite`] prints the same for the visitor to try.

mod chapters;
mod client;
mod error;
mod invite;
pub mod servers;
mod shop;
mod steps;
mod tour;

use super::exit;
use crate::config::Config;
use crate::{StartError, Warden};

pub use error::DemoError;
pub use invite::{invite, wait_for_ctrl_c};
pub use shop::Shop;
pub use tour::tour;

/// Try it: private Postgres and Redis, a sample shop, and the daemon in front of them
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Walk through the steps by itself, and fail if an answer is wrong
    #[arg(long)]
    tour: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    match show(args) {
        Ok(0) => 0,
        Ok(_wrong) => exit::FAILED,
        Err(error) => {
            exit::tell(&error);
            exit::UNAVAILABLE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{0}")]
    Config(#[from] crate::config::Problems),
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// The number of steps of the tour that went wrong.
fn show(args: &Args) -> Result<usize, ShowError> {
    let mut shop = Shop::open()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let warden = runtime.block_on(Warden::start(Config::load(shop.config())?))?;
    let stdout = &mut std::io::stdout();
    let wrong = if args.tour {
        tour(&mut shop, stdout)?
    } else {
        invite(&shop, stdout)?;
        wait_for_ctrl_c()?;
        0
    };
    runtime.block_on(warden.stop());
    Ok(wrong)
}
