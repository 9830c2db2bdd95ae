//! Compiles Lua from the sources that `lua-src` brings, with Lua's checks of how its C API is used: a slip in libipc's
//! binding ends a spec by an assertion instead of going unseen.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let lua = lua_src::Build::new().debug(true).opt_level("2").build(lua_src::Lua55);
    let library = lua.lib_dir().join(format!("lib{}.a", lua.libs()[0]));
    // All of Lua, and its names for libraries that the program loads: libipc.so finds them there.
    println!("cargo:rustc-link-arg-bins=-Wl,--whole-archive,{},--no-whole-archive", library.display());
    println!("cargo:rustc-link-arg-bins=-rdynamic");
    for name in ["m", "dl"] {
        println!("cargo:rustc-link-arg-bins=-l{name}");
    }
}
