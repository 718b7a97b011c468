//! The Redis protocol door: whatever a client sends, it gets answers in the order it asked, and
//! nothing it sends costs more than a bounded amount.

pub mod codec;
