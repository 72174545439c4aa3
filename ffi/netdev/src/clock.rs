//! What the kernel thinks of the system's clock.

use std::io;

/// Whether the clock is kept in step with another one, as far as the kernel was told (adjtimex(2)).
///
/// # Errors
/// The kernel's, where a sandbox forbids the question.
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: a structure of integers; all zeros asks for nothing to be changed.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in a structure of this type.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != libc::TIME_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_an_opinion() {
        // Either will do here.
        is_synchronised().unwrap();
    }
}
