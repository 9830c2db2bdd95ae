/* Peers for the benchmarks, by POSIX threads alone. `require 'bench_peer'` is a table:
   mutex([address])  the least that a recursive mutex costs as a Lua object: one with lock, unlock, address, and `nothing`, a method that
                     does nothing. What libipc's mutex does besides (deadlines, cancels, a check of the owner, locks of the dead, forks)
                     is not in it. With an address, of one in another state. Its memory is never freed.
   pingpong(n)       seconds that it takes two threads to wake each other by a mutex and condition variables, n times there and back
   barrier(k, n)     seconds that it takes k threads to meet n times at a barrier */
#include <lauxlib.h>
#include <lua.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

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

static int address(lua_State *L) {
  lua_pushnumber(L, (lua_Number)(uintptr_t)mutex(L));
  return 1;
}

static int make(lua_State *L) {
  uintptr_t other = (uintptr_t)luaL_optnumber(L, 1, 0);
  pthread_mutex_t **handle = lua_newuserdata(L, sizeof *handle);
  *handle = other ? (pthread_mutex_t *)other : malloc(sizeof **handle);
  if (!*handle) return luaL_error(L, "not enough memory");
  if (!other) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(*handle, &recursive);
  }
  luaL_getmetatable(L, CLASS);
  lua_setmetatable(L, -2);
  return 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct table {
  pthread_mutex_t mutex;
  pthread_cond_t there, back;
  int ball; /* 0: nobody's, 1: there, 2: back */
  long n;
};

static void *echo(void *p) {
  struct table *t = p;
  for (long i = 0; i < t->n; i++) {
    pthread_mutex_lock(&t->mutex);
    while (t->ball != 1) pthread_cond_wait(&t->there, &t->mutex);
    t->ball = 2;
    pthread_cond_signal(&t->back);
    pthread_mutex_unlock(&t->mutex);
  }
  return NULL;
}

static int pingpong(lua_State *L) {
  struct table t = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, luaL_checklong(L, 1)};
  pthread_t other;
  if (pthread_create(&other, NULL, echo, &t)) return luaL_error(L, "no thread");
  double began = now();
  for (long i = 0; i < t.n; i++) {
    pthread_mutex_lock(&t.mutex);
    t.ball = 1;
    pthread_cond_signal(&t.there);
    while (t.ball != 2) pthread_cond_wait(&t.back, &t.mutex);
    t.ball = 0;
    pthread_mutex_unlock(&t.mutex);
  }
  lua_pushnumber(L, now() - began);
  pthread_join(other, NULL);
  return 1;
}

struct meeting {
  pthread_barrier_t barrier;
  long n;
};

static void *meet(void *p) {
  struct meeting *m = p;
  for (long i = 0; i < m->n; i++) pthread_barrier_wait(&m->barrier);
  return NULL;
}

static int barrier(lua_State *L) {
  long k = luaL_checklong(L, 1);
  struct meeting m = {.n = luaL_checklong(L, 2)};
  pthread_t others[64];
  if (k < 1 || k > 64) return luaL_error(L, "1 to 64 threads");
  pthread_barrier_init(&m.barrier, NULL, (unsigned)k);
  double began = now();
  for (long i = 1; i < k; i++)
    if (pthread_create(&others[i], NULL, meet, &m)) abort();
  meet(&m);
  for (long i = 1; i < k; i++) pthread_join(others[i], NULL);
  lua_pushnumber(L, now() - began);
  return 1;
}

int luaopen_bench_peer(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"lock", lock}, {"unlock", unlock}, {"nothing", nothing}, {"address", address}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"mutex", make}, {"pingpong", pingpong}, {"barrier", barrier}, {NULL, NULL}};
  luaL_newmetatable(L, CLASS);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
