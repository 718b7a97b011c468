//! Names that clients give to what is no key: locks, and the subjects of limits. They become the end of a key of ours.

/// Bytes of a name at most.
pub const MAX_LABEL_BYTES: usize = 512;

/// Why a name is refused; reads on from what it names.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelError {
    #[error("is empty")]
    Empty,
    #[error("has {len} bytes, more than {MAX_LABEL_BYTES}")]
    TooLong { len: usize },
    #[error("is not UTF-8")]
    NotText,
    #[error("holds a control character")]
    Control,
}

/// Whether `name` is 1 to [`MAX_LABEL_BYTES`] bytes of UTF-8 without control characters, so that people can read it.
///
/// # Errors
/// What is wrong with it.
pub fn check_label(name: &[u8]) -> Result<(), LabelError> {
    match name.len() {
        0 => return Err(LabelError::Empty),
        len if len > MAX_LABEL_BYTES => return Err(LabelError::TooLong { len }),
        _ => {}
    }
    let text = std::str::from_utf8(name).map_err(|_binary| LabelError::NotText)?;
    match text.chars().any(char::is_control) {
        true => Err(LabelError::Control),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_people_can_read() {
        let long = "x".repeat(MAX_LABEL_BYTES);
        for fine in ["a", "reports:2026 {x}*?", "größe", &long] {
            assert_eq!(check_label(fine.as_bytes()), Ok(()), "{fine}");
        }
        let too_long = "x".repeat(MAX_LABEL_BYTES + 1);
        let bad: [(&[u8], LabelError); 5] = [
            (b"", LabelError::Empty),
            (too_long.as_bytes(), LabelError::TooLong { len: 513 }),
            (b"\xff", LabelError::NotText),
            (b"a\nb", LabelError::Control),
            (b"\0", LabelError::Control),
        ];
        for (name, why) in bad {
            assert_eq!(check_label(name), Err(why));
        }
    }
}
