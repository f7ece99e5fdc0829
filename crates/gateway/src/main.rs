//! The program `clawgate`: reads the command line, runs one command, says how it went.

#![forbid(unsafe_code)]

/// A call makes some hundred small allocations; this allocator takes half the time for them that
/// the C library's takes (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    clawgate::cli::main()
}
