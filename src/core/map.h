/* map.h: a hash map from bytes to objects of the caller, which contain their key.
 *
 * Open addressing over two arrays, the 32-bit hashes and the object pointers (12 bytes a slot,
 * 15 to 31 an entry); nothing is added to the object. Probing reads hashes only, so a lookup that
 * hits touches one object. Deleting shifts back; there are no tombstones. Growing needs no keys,
 * but moves all slots at once (about 10 ms for a million entries). Limits are the caller's. Not
 * synchronised. */
#ifndef LV_CORE_MAP_H
#define LV_CORE_MAP_H
#include "core/slice.h"

/* The key inside an object; it must not change while the object is in a map. */
typedef lv_slice lv_map_key_fn(const void *obj);

typedef struct lv_map {
  uint32_t *hash; /* 0: empty slot */
  void **obj;
  uint32_t n, cap; /* entries; slots, 0 or a power of two */
  lv_map_key_fn *key;
} lv_map;

void lv_map_init(lv_map *m, lv_map_key_fn *key);
/* Frees the table, not the objects. */
void lv_map_done(lv_map *m);
/* The object with this key, or NULL. */
void *lv_map_get(const lv_map *m, lv_slice key);
/* Adds an object: 0, or LV_E_EXISTS when there is one with its key. Memory that is out aborts. */
int lv_map_add(lv_map *m, void *obj);
/* Adds it in place of the one with its key, which is returned; NULL when there was none. */
void *lv_map_put(lv_map *m, void *obj);
/* Takes out the object with this key and returns it, or NULL. Shrinks the table when it is nearly
 * empty. */
void *lv_map_del(lv_map *m, lv_slice key);
/* The next object at or behind *pos (start with 0), or NULL at the end; *pos moves behind it. The
 * order is of no meaning. The map must not change in between, but for lv_map_del_prev. */
void *lv_map_next(const lv_map *m, uint32_t *pos);
/* Takes out the object that lv_map_next just returned; the walk goes on with lv_map_next. The walk
 * may then return an object that it returned before, but misses none. */
void lv_map_del_prev(lv_map *m, uint32_t *pos);
/* With the hash of the key at hand (lv_hash_slice): saves computing it twice. */
void *lv_map_get_hashed(const lv_map *m, lv_slice key, uint64_t hash);
int lv_map_add_hashed(lv_map *m, void *obj, uint64_t hash);
/* Bytes of the table, for memory limits and metrics. */
size_t lv_map_bytes(const lv_map *m);

#endif
