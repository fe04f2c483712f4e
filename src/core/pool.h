/* pool.h: recycles objects of one size, mostly without a lock.
 *
 *   thread:  cur [o o o]   full [o × batch]      (its own, no lock)
 *   process: full magazines, at most shared_max  (a mutex, taken once per `batch` objects)
 *
 * An object may be freed on another thread than the one that took it: full magazines travel from
 * the freeing thread to the taking one, so a producer and a consumer do not go through malloc for
 * each object. Everything is bounded; what does not fit goes back to the heap. What a thread keeps
 * is freed when it ends. The first 16 bytes of a resting object are the pool's; with ASan the rest
 * is poisoned (unless `keep`). */
#ifndef LV_CORE_POOL_H
#define LV_CORE_POOL_H
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lv_pool_node {
  struct lv_pool_node *next;     /* in its magazine */
  struct lv_pool_node *next_mag; /* of a magazine's first object, while it is shared */
} lv_pool_node;

typedef struct lv_pool {
  size_t size;                /* of an object, >= 16 */
  size_t align;               /* power of two */
  uint32_t batch, shared_max; /* objects a magazine; magazines kept by the process */
  bool keep;                  /* contents behind the first 16 bytes survive a rest */
  void (*init)(void *obj);    /* after it came from the heap, may be NULL */
  void (*fini)(void *obj);    /* before it goes back there, may be NULL */
  pthread_mutex_t lock;
  lv_pool_node *shared;
  uint32_t n_shared;
} lv_pool;

/* A thread's part; declare it `static _Thread_local` and zero it beside the pool. */
typedef struct lv_pool_local {
  lv_pool *pool; /* set once it is registered for the thread's end */
  lv_pool_node *cur, *full;
  uint32_t n;
  struct lv_pool_local *next;
} lv_pool_local;

#if defined(__SANITIZE_ADDRESS__)
#define LV_POOL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LV_POOL_ASAN 1
#endif
#endif
#ifdef LV_POOL_ASAN
#define LV_POOL_TAKEN(pool, obj) lv_pool_unpoison(pool, obj)
#else
#define LV_POOL_TAKEN(pool, obj) ((void)0)
#endif

/* Never NULL: aborts when memory is out. @thread the one of `local` */
void *lv_pool_get_slow(lv_pool *pool, lv_pool_local *local);
void lv_pool_put(lv_pool *pool, lv_pool_local *local, void *obj);
/* Frees what the process shares; for tests. @thread any */
void lv_pool_trim(lv_pool *pool);
void lv_pool_unpoison(const lv_pool *pool, void *obj);

static inline void *lv_pool_get(lv_pool *pool, lv_pool_local *local) {
  lv_pool_node *o = local->cur;
  if (__builtin_expect(!o, 0)) return lv_pool_get_slow(pool, local);
  local->cur = o->next;
  local->n--;
  LV_POOL_TAKEN(pool, o);
  return o;
}

#endif
