#![forbid(unsafe_code)]
pub mod supervisor;
