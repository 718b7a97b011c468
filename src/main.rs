//! The `cachewarden` binary: parses the command line, dispatches, sets the exit code.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cachewarden::cli::Cli::parse().run()
}
