/* conf.c: a document's life: read, parsed, shared, freed; and the look-ups in it. Apps and keys are
 * found through arrays sorted by name and id, channels in their app's sorted array. */
#include "core/conf_int.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct lv_conf_index {
  const lv_app **apps; /* by name */
  const lv_key **keys; /* by id */
  uint32_t n_keys;
};

static int app_cmp(const void *a, const void *b) {
  return lv_slice_cmp((*(const lv_app *const *)a)->name, (*(const lv_app *const *)b)->name);
}
static int key_cmp(const void *a, const void *b) {
  return lv_slice_cmp((*(const lv_key *const *)a)->id, (*(const lv_key *const *)b)->id);
}

static int id_cmp(const void *a, const void *b) {
  return lv_slice_cmp(((const lv_key *)a)->id, ((const lv_key *)b)->id);
}

static void keys_sort(const lv_key *keys, uint32_t n) {
  if (n) qsort((lv_key *)keys, n, sizeof *keys, id_cmp);
}

/* Keys come into the order of their ids, as channels are in that of their names. */
static void index_make(lv_conf *c) {
  struct lv_conf_index *ix = lv__conf_get(c->mem, sizeof *ix);
  ix->n_keys = c->n_keys;
  for (uint32_t i = 0; i < c->n_apps; i++) ix->n_keys += c->apps[i].n_keys;
  ix->apps = lv__conf_get(c->mem, c->n_apps * sizeof *ix->apps);
  ix->keys = lv__conf_get(c->mem, ix->n_keys * sizeof *ix->keys);
  keys_sort(c->keys, c->n_keys);
  for (uint32_t i = 0; i < c->n_apps; i++) keys_sort(c->apps[i].keys, c->apps[i].n_keys);
  uint32_t at = 0;
  for (; at < c->n_keys; at++) ix->keys[at] = &c->keys[at];
  for (uint32_t i = 0; i < c->n_apps; i++) {
    ix->apps[i] = &c->apps[i];
    for (uint32_t k = 0; k < c->apps[i].n_keys; k++) ix->keys[at++] = &c->apps[i].keys[k];
  }
  if (c->n_apps) qsort(ix->apps, c->n_apps, sizeof *ix->apps, app_cmp);
  if (at) qsort(ix->keys, at, sizeof *ix->keys, key_cmp);
  c->index = ix;
}

void *lv__conf_get(lv_arena *m, size_t n) {
  void *p = lv_arena_calloc(m, 1, n);
  if (!p) abort();
  return p;
}

lv_slice lv__conf_slice(lv_arena *m, lv_slice s) {
  lv_slice copy;
  if (!lv_arena_slice(m, s, &copy)) abort();
  return copy;
}

static void conf_free(lv_conf *c) {
  lv_arena *m = c->mem;
  lv__conf_pkeys_free(c);
  lv_arena_done(m);
  free(m);
}

int lv_conf_parse_with(const char *path, lv_slice text, lv_conf_more *more, uint32_t n_more,
                       lv_conf_issue_fn *fn, void *arg, lv_conf **ret_conf) {
  assert(ret_conf);
  lv_arena tree, *mem = malloc(sizeof *mem);
  if (!mem) abort();
  lv_arena_init(mem, 16 * 1024, SIZE_MAX / 2);
  lv_arena_init(&tree, 64 * 1024, SIZE_MAX / 2);
  lv_conf *c = lv__conf_get(mem, sizeof *c);
  lv__conf_build b = {.conf = c,
                      .mem = mem,
                      .tmem = &tree,
                      .file = path ? path : "(built in)",
                      .fn = fn,
                      .arg = arg};
  c->mem = mem;
  atomic_init(&c->refs, 1);
  if (path) c->path = (const char *)lv__conf_slice(mem, lv_slice_str(path)).p;
  if (text.n > LV__CONF_FILE_MAX) {
    lv__conf_issue_at(&b, 1, 1, NULL, "larger than %d MiB", LV__CONF_FILE_MAX >> 20);
  } else {
    lv__conf_node *root = lv__conf_tree(&b, text);
    if (b.n_issues == 0 && n_more) lv__conf_append(&b, &root, more, n_more);
    if (b.n_issues == 0) lv__conf_fill(&b, root);
  }
  lv_arena_done(&tree);
  if (b.n_issues) {
    conf_free(c);
    return LV_E_CONFIG;
  }
  index_make(c);
  *ret_conf = c;
  return 0;
}

int lv_conf_parse(const char *path, lv_slice text, lv_conf_issue_fn *fn, void *arg,
                  lv_conf **ret_conf) {
  return lv_conf_parse_with(path, text, NULL, 0, fn, arg, ret_conf);
}

int lv__conf_file_read(const char *path, size_t max, uint8_t **ret_p, size_t *ret_n) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  size_t cap = 64 * 1024, n = 0;
  uint8_t *p = malloc(cap);
  int r = p ? 0 : -ENOMEM;
  struct stat st;
  if (r == 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) r = -EISDIR;
  while (r == 0 && n <= max) {
    if (n == cap) {
      uint8_t *q = realloc(p, cap *= 2);
      if (!q) {
        r = -ENOMEM;
        break;
      }
      p = q;
    }
    ssize_t got = read(fd, p + n, cap - n);
    if (got == 0) break;
    if (got > 0)
      n += (size_t)got;
    else if (errno != EINTR)
      r = -errno;
  }
  close(fd);
  if (r) {
    free(p);
    return r;
  }
  *ret_p = p;
  *ret_n = n;
  return 0;
}

int lv_conf_read(const char *path, lv_conf_issue_fn *fn, void *arg, char **ret_text,
                 size_t *ret_n) {
  assert(path);
  uint8_t *p = NULL;
  int r = lv__conf_file_read(path, LV__CONF_FILE_MAX, &p, ret_n);
  if (r) {
    lv_conf_issue issue = {.file = path, .line = 0};
    snprintf(issue.text, sizeof issue.text, "cannot be read: %s", lv_strerror(-r));
    if (fn) fn(arg, &issue);
    return LV_E_CONFIG;
  }
  *ret_text = (char *)p;
  return 0;
}

int lv_conf_load(const char *path, lv_conf_issue_fn *fn, void *arg, lv_conf **ret_conf) {
  char *p = NULL;
  size_t n = 0;
  int r = lv_conf_read(path, fn, arg, &p, &n);
  if (r) return r;
  r = lv_conf_parse(path, lv_slice_of(p, n), fn, arg, ret_conf);
  free(p);
  return r;
}

lv_conf *lv_conf_ref(lv_conf *c) {
  assert(c);
  atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
  return c;
}

void lv_conf_unref(lv_conf *c) {
  if (!c) return;
  uint32_t before = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
  assert(before > 0);
  if (before == 1) conf_free(c);
}

const lv_app *lv_conf_app(const lv_conf *c, lv_slice name) {
  lv_app want = {.name = name};
  const lv_app *p = &want;
  if (c->n_apps == 0) return NULL;
  const lv_app **hit = bsearch(&p, c->index->apps, c->n_apps, sizeof *hit, app_cmp);
  return hit ? *hit : NULL;
}

const lv_chan_conf *lv_conf_channel(const lv_app *app, lv_slice name) {
  uint32_t lo = 0, hi = app->n_channels;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    int r = lv_slice_cmp(name, app->channels[mid].name);
    if (r == 0) return &app->channels[mid];
    if (r < 0)
      hi = mid;
    else
      lo = mid + 1;
  }
  return NULL;
}

const lv_key *lv_conf_key_by_id(const lv_conf *c, lv_slice id) {
  lv_key want = {.id = id};
  const lv_key *p = &want;
  if (c->index->n_keys == 0) return NULL;
  const lv_key **hit = bsearch(&p, c->index->keys, c->index->n_keys, sizeof *hit, key_cmp);
  return hit ? *hit : NULL;
}
