/* pool.c: the magazines of pool.h. A thread's parts are chained on first use, so that one
 * pthread key's destructor can free them all when the thread ends. */
#include "core/pool.h"
#include <assert.h>
#include <stdlib.h>

#ifdef LV_POOL_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void lv_pool_unpoison(const lv_pool *pool, void *obj) {
  if (!pool->keep) UNPOISON((char *)obj + sizeof(lv_pool_node), pool->size - sizeof(lv_pool_node));
}

static void free_chain(lv_pool *pool, lv_pool_node *o) {
  while (o) {
    lv_pool_node *next = o->next;
    lv_pool_unpoison(pool, o);
    if (pool->fini) pool->fini(o);
    free(o);
    o = next;
  }
}

static void thread_end(void *arg) {
  for (lv_pool_local *l = arg, *next; l; l = next) {
    next = l->next;
    free_chain(l->pool, l->cur);
    free_chain(l->pool, l->full);
    *l = (lv_pool_local){0};
  }
}

static void make_key(void) {
  if (pthread_key_create(&key, thread_end) != 0) abort();
}

static void enroll(lv_pool *pool, lv_pool_local *local) {
  pthread_once(&once, make_key);
  local->pool = pool;
  local->next = pthread_getspecific(key);
  if (pthread_setspecific(key, local) != 0) abort();
}

void *lv_pool_get_slow(lv_pool *pool, lv_pool_local *local) {
  assert(local->cur == NULL && local->n == 0);
  lv_pool_node *o = local->full;
  local->full = NULL;
  if (!o && __atomic_load_n(&pool->n_shared, __ATOMIC_RELAXED)) {
    pthread_mutex_lock(&pool->lock);
    o = pool->shared;
    if (o) {
      pool->shared = o->next_mag;
      __atomic_store_n(&pool->n_shared, pool->n_shared - 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&pool->lock);
  }
  if (o) {
    if (!local->pool) enroll(pool, local);
    local->cur = o->next;
    local->n = pool->batch - 1;
    lv_pool_unpoison(pool, o);
    return o;
  }
  o = pool->align > 16 ? aligned_alloc(pool->align, pool->size) : malloc(pool->size);
  if (!o) abort();
  if (pool->init) pool->init(o);
  return o;
}

/* The thread holds two full magazines: one goes to the process or the heap. */
static void hand_over(lv_pool *pool, lv_pool_node *mag) {
  bool kept = false;
  pthread_mutex_lock(&pool->lock);
  if (pool->n_shared < pool->shared_max) {
    mag->next_mag = pool->shared;
    pool->shared = mag;
    __atomic_store_n(&pool->n_shared, pool->n_shared + 1, __ATOMIC_RELAXED);
    kept = true;
  }
  pthread_mutex_unlock(&pool->lock);
  if (!kept) free_chain(pool, mag);
}

void lv_pool_put(lv_pool *pool, lv_pool_local *local, void *obj) {
  lv_pool_node *o = obj;
  if (__builtin_expect(local->n == pool->batch, 0)) {
    if (local->full) hand_over(pool, local->full);
    local->full = local->cur;
    local->cur = NULL;
    local->n = 0;
  }
  if (__builtin_expect(!local->pool, 0)) enroll(pool, local);
  o->next = local->cur;
  local->cur = o;
  local->n++;
  if (!pool->keep) POISON((char *)obj + sizeof(lv_pool_node), pool->size - sizeof(lv_pool_node));
}

void lv_pool_trim(lv_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  lv_pool_node *mag = pool->shared;
  pool->shared = NULL;
  __atomic_store_n(&pool->n_shared, 0, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&pool->lock);
  while (mag) {
    lv_pool_node *next = mag->next_mag;
    free_chain(pool, mag);
    mag = next;
  }
}
