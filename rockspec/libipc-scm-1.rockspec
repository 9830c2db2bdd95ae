rockspec_format = '3.0'
package = 'libipc'
version = 'scm-1'

source = {
  url = 'git+https://github.com/libipc/libipc.git',
  branch = 'main',
}

description = {
  summary = 'Parallel computing for Lua: threads, processes, message passing and collectives over tensors',
  detailed = [[
    Run functions in threads with Lua states of their own, share queues and tensors between them, talk to other
    processes and hosts, and reduce tensors over many of them. Works without Torch and with it.
    Building it needs Rust 1.89 or newer, from https://rustup.rs.
  ]],
  homepage = 'https://github.com/libipc/libipc',
  license = 'Apache-2.0',
  labels = { 'parallel', 'threads', 'ipc', 'tensor', 'torch' },
}

supported_platforms = { 'linux' }

dependencies = { 'lua >= 5.1, < 5.6' }

-- One library a Lua: make asks LUA which one it is (5.1 and LuaJIT share a rocks tree).
build = {
  type = 'make',
  build_target = 'build-for-lua',
  build_variables = { LUA = '$(LUA)', CFLAGS = '$(CFLAGS)' }, -- CFLAGS: LuaRocks warns without
  install_target = 'install',
  install_variables = {
    LUA = '$(LUA)',
    INST_LIBDIR = '$(LIBDIR)',
    INST_LUADIR = '$(LUADIR)',
    INST_BINDIR = '$(BINDIR)',
  },
}
