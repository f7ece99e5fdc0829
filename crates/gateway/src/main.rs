//! The program `clawgate`: reads the command line, runs one command, says how it went.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    clawgate::cli::main()
}
