//! `cachewarden check`: tells every mistake of the configuration at once.

use std::path::Path;

use crate::config::Config;

/// Check the configuration and print every mistake with its place and the mend.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Also connect to Postgres and prepare every query there
    #[arg(long)]
    pub connect: bool,
}

/// Checks what can be told without a server.
///
/// # Errors
/// All mistakes, rendered for a terminal.
pub fn offline(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|problems| {
        let count = problems.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        format!("{problems}\n\n{count} {noun}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_file_is_rendered_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, "[redis]\nurl = 3\n[log]\nlevle = 1\n").unwrap();
        let rendered = offline(&path).unwrap_err();
        assert!(
            rendered.contains("x.toml:2:7") && rendered.contains("x.toml:4:1"),
            "{rendered}"
        );
        assert!(rendered.ends_with("\n\n2 mistakes"), "{rendered}");
        std::fs::write(&path, "[redis]\nurl = \"redis://h\"\n").unwrap();
        assert!(offline(&path).is_ok());
    }
}
