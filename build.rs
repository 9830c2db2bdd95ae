//! How the shared library is linked; the rest is cargo's.

// No part of the library: it runs alone, and speaks to cargo.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods)]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let cfi = flags.contains("sanitizer=cfi") || flags.contains("sanitizer=kcfi");
    if cfi && std::env::var_os("CARGO_FEATURE_LUAJIT").is_some() {
        // src/bind/vm/call.rs has the reason.
        println!(
            "cargo::error=C functions for LuaJIT return a full register, which control-flow integrity takes for another type"
        );
    }
    // `CARGO_CFG_…`: the machine that it is built for, not this one.
    let elf = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if elf {
        // Lua closes a module with its state, while our threads may still run its code.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // A Lua function that the interpreter lacks is an error at load, not the end of the process at its first call.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
    }
}
