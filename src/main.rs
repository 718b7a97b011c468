//! The `cachewarden` binary: parses the command line, dispatches, sets the exit code.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits.h.
const EX_USAGE: u8 = 64;

fn main() -> std::process::ExitCode {
    match cachewarden::cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(told) => {
            // What was wrong, or the help that was asked for; without a terminal to tell, the code must do.
            let _unheard = told.print();
            std::process::ExitCode::from(if told.use_stderr() { EX_USAGE } else { 0 })
        }
    }
}
