/* A peer for the benchmarks: the least that a recursive mutex costs as a Lua object, in C. `require 'bench_peer'()` makes one, with
   lock, unlock, and `nothing`, a method that does nothing. What libipc's mutex does besides (deadlines, cancels, a check of the
   owner, locks of the dead, forks) is not in it. Its memory is never freed. */
#include <lauxlib.h>
#include <lua.h>
#include <pthread.h>
#include <stdlib.h>

static const char CLASS[] = "bench_peer";

static pthread_mutex_t *mutex(lua_State *L) { return *(pthread_mutex_t **)luaL_checkudata(L, 1, CLASS); }

static int lock(lua_State *L) {
  pthread_mutex_lock(mutex(L));
  return 0;
}

static int unlock(lua_State *L) {
  pthread_mutex_unlock(mutex(L));
  return 0;
}

static int nothing(lua_State *L) {
  (void)L;
  return 0;
}

static int make(lua_State *L) {
  pthread_mutexattr_t recursive;
  pthread_mutex_t **handle = lua_newuserdata(L, sizeof *handle);
  *handle = malloc(sizeof **handle);
  if (!*handle) return luaL_error(L, "not enough memory");
  pthread_mutexattr_init(&recursive);
  pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(*handle, &recursive);
  luaL_getmetatable(L, CLASS);
  lua_setmetatable(L, -2);
  return 1;
}

int luaopen_bench_peer(lua_State *L) {
  static const luaL_Reg methods[] = {{"lock", lock}, {"unlock", unlock}, {"nothing", nothing}, {NULL, NULL}};
  luaL_newmetatable(L, CLASS);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, make);
  return 1;
}
