//! `cachewarden demo` shows the daemon on servers of its own, and leaves nothing behind.

pub mod servers;
