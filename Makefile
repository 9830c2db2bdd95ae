# make            the library for each Lua that is installed, as target/<lua>/libipc.so; `make LUAS=luajit` for one
# make demo       train a model with four processes (installs what is missing on Debian and Ubuntu)
# make test       everything that CI checks, the lint included; `make test LUAS=luajit` for one Lua
# make lint       formatting, clippy, luacheck, the manual against its source
# make lint-annotations  what a language server says of the annotations; installs the one for `make lint` (minutes)
# make bench      the table of speeds
# make soak       hours of repeats, valgrind, out-of-memory: bounded, with a summary
# make setup      the system packages that the above need
# make install    PREFIX=/usr/local LUA=lua5.4 (also what the rockspec calls)
# make uninstall  the same PREFIX and LUA: removes what install put there
# make doc        doc/api.md from lua/library/ipc.lua
# make clean      what was built
# make help       this

every   := luajit lua51 lua52 lua53 lua54
PREFIX  ?= /usr/local
PROFILE ?= release
CARGO   ?= cargo

# Rust from rustup goes before a system's, which is often too old.
ifneq ($(wildcard $(HOME)/.cargo/bin/cargo),)
export PATH := $(HOME)/.cargo/bin:$(PATH)
endif

oldest  := $(shell sed -n 's/^rust-version = "1\.\(.*\)"/\1/p' Cargo.toml)
built   := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
library := $(shell uname -s | grep -q Darwin && echo libipc.dylib || echo libipc.so)

# LUAS, unless it is given: to build, the Luas that are installed; where everything is checked, every one.
ifeq ($(origin LUAS),undefined)
default := yes
LUAS    := $(every)
ifeq ($(filter test bench soak,$(MAKECMDGOALS)),)
LUAS    := $(strip $(foreach lua,$(every),$(if $(shell command -v $(lua:lua5%=lua5.%)),$(lua))))
endif
else
# lua5.4 for lua54: the interpreter is called so.
override LUAS := $(LUAS:lua5.%=lua5%)
endif

# The Lua to install for: asked what it is, as several answer to the name `lua`. Evaluated only where it is used.
LUA     ?= $(firstword $(foreach name,luajit lua5.4 lua5.3 lua5.2 lua5.1 lua,$(shell command -v $(name))))
feature  = $(if $(LUA),$(shell $(LUA) -e 'print(jit and "luajit" or "lua" .. _VERSION:match("%d.%d"):gsub("%.", ""))' 2>/dev/null))
version  = $(if $(LUA),$(shell $(LUA) -e 'print(_VERSION:match("%d.%d"))' 2>/dev/null))
INST_LIBDIR ?= $(PREFIX)/lib/lua/$(version)
INST_LUADIR ?= $(PREFIX)/share/lua/$(version)
INST_BINDIR ?= $(PREFIX)/bin

.PHONY: all demo test lint lint-annotations bench soak setup doc install uninstall build-for-lua clean help FORCE
# Every Lua's library passes through the same file of cargo's.
.NOTPARALLEL:

all: $(LUAS:%=target/%/libipc.so)
	@test -n '$(LUAS)' || { echo 'make: no Lua is installed here: install one, or say which with LUAS=luajit' >&2; exit 1; }

# make decides what is to be done, not cargo, which would build anew for each change of the Lua: all of them have one place in
# its fingerprints. The copy is moved into place: a process may have the old one mapped.
target/%/libipc.so: $(shell find src build.rs Cargo.toml Cargo.lock -type f) target/profile
	@$(CARGO) --version | awk -F '[ .]' '$$2 == 1 && $$3 < $(oldest) { exit 1 }' || { \
	  echo 'make: Rust 1.$(oldest) or newer is needed, which https://rustup.rs has: this is' "$$($(CARGO) --version)" >&2; exit 1; }
	$(CARGO) rustc --profile $(PROFILE) --locked --lib --crate-type cdylib --no-default-features --features $*
	@mkdir -p $(@D)
	@cp $(built)/$(library) $@.new && mv $@.new $@

# What the libraries were built for: newer than they are when that has changed. Not with which Rust: root, who installs, may
# have another one than who has built.
target/profile: FORCE
	@mkdir -p $(@D)
	@echo '$(PROFILE)' | cmp -s - $@ || echo '$(PROFILE)' > $@

# Lua 5.5 for the specs, since no distribution has it yet. cargo decides whether there is anything to do.
target/bin/lua5.5: FORCE
	$(CARGO) build --quiet --locked --manifest-path tests/interpreter/Cargo.toml --target-dir target/interpreter
	@mkdir -p $(@D)
	@cmp -s target/interpreter/debug/lua $@ || { cp target/interpreter/debug/lua $@.new && mv $@.new $@; }

# Lua states whose memory runs out, for the specs on every Lua.
target/out_of_memory.so: FORCE
	$(CARGO) build --quiet --locked --manifest-path tests/out_of_memory/Cargo.toml --target-dir target/interpreter
	@cmp -s target/interpreter/debug/$(library:libipc%=libout_of_memory%) $@ || \
	  { cp target/interpreter/debug/$(library:libipc%=libout_of_memory%) $@.new && mv $@.new $@; }

demo:
	@.ci/setup demo
	@$(MAKE) --no-print-directory target/luajit/libipc.so
	LUA_PATH='lua/?.lua;;' LUA_CPATH='target/luajit/?.so;;' luajit bin/ipcrun -n 4 examples/digits.lua

# Lua 5.5 too, unless LUAS says otherwise: its interpreter is made for the tests.
test:
	@.ci/setup test
	@LUAS='$(LUAS)$(if $(default), lua55)' .ci/test

lint:
	@.ci/setup test
	@.ci/lint

# `make lint` takes it from there.
lint-annotations: target/tools/bin/emmylua_check
	@.ci/annotations

target/tools/bin/emmylua_check:
	$(CARGO) install --locked emmylua_check --version 0.25.1 --root target/tools --target-dir target/tools/build
	@rm -rf target/tools/build

bench:
	@.ci/setup bench
	@LUAS='$(LUAS)' benches/run

soak:
	@.ci/setup soak
	@.ci/soak

setup:
	@.ci/setup all

doc:
	@.ci/setup demo
	luajit doc/manual.lua lua/library/ipc.lua > doc/api.md.new && mv doc/api.md.new doc/api.md

build-for-lua:
	@test -n '$(feature)' || { echo 'make: no Lua $(if $(LUA),at "$(LUA)",is installed here): say which with LUA=/path/to/lua' >&2; exit 1; }
	@if command -v $(CARGO) >/dev/null || [ ! -e target/$(feature)/libipc.so ]; \
	then $(MAKE) --no-print-directory target/$(feature)/libipc.so; \
	else echo 'make: no cargo here (sudo?): taking target/$(feature)/libipc.so as it is'; fi

# Programs are run by the Lua that they were installed for. DESTDIR is for packagers. The annotations go where the language server may be pointed to, not where `require` looks.
# Most of the library is lines for debuggers, which stay in target/.
install: build-for-lua
	install -d '$(DESTDIR)$(INST_LIBDIR)' '$(DESTDIR)$(INST_LUADIR)' '$(DESTDIR)$(INST_BINDIR)'
	@if command -v strip >/dev/null; then strip --strip-debug -o target/$(feature)/stripped.so target/$(feature)/libipc.so; \
	else cp target/$(feature)/libipc.so target/$(feature)/stripped.so; fi
	install -m 755 target/$(feature)/stripped.so '$(DESTDIR)$(INST_LIBDIR)/libipc.so'
	@set -e; cd lua; for f in $$(find ipc.lua ipc -name '*.lua'); do \
	  install -d '$(DESTDIR)$(INST_LUADIR)'/$$(dirname $$f); \
	  install -m 644 $$f '$(DESTDIR)$(INST_LUADIR)'/$$f; \
	done
	install -d '$(DESTDIR)$(INST_LUADIR)/ipc/library/ipc'
	install -m 644 lua/library/*.lua '$(DESTDIR)$(INST_LUADIR)/ipc/library/'
	install -m 644 lua/library/ipc/*.lua '$(DESTDIR)$(INST_LUADIR)/ipc/library/ipc/'
	@set -e; lua=$$(command -v $(LUA)); for f in $(wildcard bin/*); do \
	  to='$(DESTDIR)$(INST_BINDIR)'/$$(basename $$f); \
	  [ ! -e "$$to" ] || [ "$$(head -n 1 "$$to")" = "#!$$lua" ] || echo "make: $$to is now run by $$lua"; \
	  sed "1s|^#!.*|#!$$lua|" $$f > "$$to"; chmod 755 "$$to"; \
	done

uninstall:
	@test -n '$(feature)' || { echo 'make: no Lua $(if $(LUA),at "$(LUA)",is installed here): say which with LUA=/path/to/lua' >&2; exit 1; }
	rm -f '$(DESTDIR)$(INST_LIBDIR)/libipc.so'
	@set -e; cd lua; for f in $$(find ipc.lua ipc -name '*.lua'); do rm -f '$(DESTDIR)$(INST_LUADIR)'/$$f; done
	@lua=$$(command -v $(LUA)); for f in $(wildcard bin/*); do \
	  to='$(DESTDIR)$(INST_BINDIR)'/$$(basename $$f); \
	  if [ ! -e "$$to" ] || [ "$$(head -n 1 "$$to")" = "#!$$lua" ]; then rm -f "$$to"; \
	  else echo "make: leaving $$to, which another Lua runs"; fi; \
	done
	@for f in $(patsubst lua/%,%,$(wildcard lua/library/*.lua lua/library/ipc/*.lua)); do \
	  rm -f '$(DESTDIR)$(INST_LUADIR)/ipc'/$$f; done
	@find '$(DESTDIR)$(INST_LUADIR)/ipc' -depth -type d -empty -delete 2>/dev/null || true

clean:
	$(CARGO) clean

help:
	@sed -n '/^# make/!q; s/^# //p' Makefile
