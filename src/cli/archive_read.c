/* archive_read.c: the reading half of archive.h.
 *
 * What is read is bytes from outside: names are single components, members are not repeated, only
 * regular files count, sizes are those of the manifest. Files are made new (O_EXCL), mode 0600.
 *
 * @thread one */
#include "cli/archive_int.h"
#include "core/err.h"
#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct unpack {
  struct archive *a;
  int fd, folder;
  lv_archive_tick *tick;
  void *tick_arg;
  EVP_MD_CTX *sha;
  json_t *found; /* name: {"size", "sha256"} */
  char *manifest, *sum;
  char manifest_hex[LV__ARCHIVE_HEX];
  bool first_seen;
  char *why;
  uint8_t in[LV__ARCHIVE_PIECE], piece[LV__ARCHIVE_PIECE];
} unpack;

__attribute__((format(printf, 3, 4))) static int fail(unpack *u, int err, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(u->why, LV_ARCHIVE_WHY, fmt, ap);
  va_end(ap);
  return err;
}

/* What libarchive could not read is damaged, unless reading itself failed. */
static int unreadable(unpack *u) {
  const char *text = archive_error_string(u->a);
  int eno = archive_errno(u->a);
  return fail(u, eno == EIO || eno == ENOMEM ? LV_E_IO : LV_E_CORRUPT, "%s",
              text ? text : "not an archive");
}

static la_ssize_t read_in(struct archive *a, void *arg, const void **ret) {
  unpack *u = arg;
  ssize_t n;
  do n = read(u->fd, u->in, sizeof u->in);
  while (n < 0 && errno == EINTR);
  if (n < 0) {
    archive_set_error(a, EIO, "reading failed: %s", lv_strerror(errno));
    return ARCHIVE_FATAL;
  }
  if (u->tick && n > 0) u->tick(u->tick_arg, (uint64_t)n);
  *ret = u->in;
  return n;
}

/* The rest of the current member as text; small ones only. */
static int take_text(unpack *u, const char *name, int64_t size, char **ret) {
  if (size < 0 || size > LV__ARCHIVE_JSON_MAX)
    return fail(u, LV_E_CORRUPT, "%s: impossible size", name);
  char *p = malloc((size_t)size + 1);
  if (!p) abort();
  la_ssize_t n = archive_read_data(u->a, p, (size_t)size);
  if (n != size) {
    free(p);
    return n < 0 ? unreadable(u) : fail(u, LV_E_CORRUPT, "%s: cut off", name);
  }
  p[size] = '\0';
  free(*ret);
  *ret = p;
  return 0;
}

static int check_format(unpack *u, const json_t *head) {
  json_int_t format = json_integer_value(json_object_get(head, "format"));
  const char *version = json_string_value(json_object_get(head, "version"));
  if (format < 1) return fail(u, LV_E_CORRUPT, "it does not say its format");
  if (format > LV_ARCHIVE_FORMAT)
    return fail(u, LV_E_FORMAT,
                "a backup of format %lld, made by Lavva %s; this one reads up to %d",
                (long long)format, version ? version : "?", LV_ARCHIVE_FORMAT);
  return 0;
}

static int take_first(unpack *u, int64_t size) {
  char *text = NULL;
  int r = take_text(u, LV__ARCHIVE_FIRST, size, &text);
  if (r) return r;
  json_t *head = json_loads(text, 0, NULL);
  free(text);
  r = head ? check_format(u, head) : fail(u, LV_E_CORRUPT, "%s: no JSON", LV__ARCHIVE_FIRST);
  json_decref(head);
  u->first_seen = true;
  return r;
}

static int write_all(unpack *u, int fd, const char *name, size_t n) {
  for (size_t done = 0; fd >= 0 && done < n;) {
    ssize_t k = write(fd, u->piece + done, n - done);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return fail(u, lv_err_from_errno(errno), "%s: %s", name, lv_strerror(errno));
    done += (size_t)k;
  }
  return 0;
}

static int take_file(unpack *u, const char *name) {
  char hex[LV__ARCHIVE_HEX];
  uint64_t size = 0;
  int fd = -1, r = 0;
  if (json_object_get(u->found, name)) return fail(u, LV_E_CORRUPT, "%s: twice", name);
  if (u->folder >= 0) {
    fd = openat(u->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail(u, lv_err_from_errno(errno), "%s: %s", name, lv_strerror(errno));
  }
  while (!r) {
    la_ssize_t n = archive_read_data(u->a, u->piece, sizeof u->piece);
    if (n < 0) r = unreadable(u);
    if (n <= 0) break;
    lv__archive_sha(u->sha, u->piece, (size_t)n);
    size += (uint64_t)n;
    r = write_all(u, fd, name, (size_t)n);
  }
  lv__archive_hex(u->sha, hex);
  if (!r && fd >= 0 && fsync(fd)) r = fail(u, lv_err_from_errno(errno), "%s: fsync", name);
  if (fd >= 0) (void)close(fd);
  if (r) return r;
  json_object_set_new(u->found, name,
                      json_pack("{s:I, s:s}", "size", (json_int_t)size, "sha256", hex));
  return 0;
}

static int take_member(unpack *u, struct archive_entry *e) {
  const char *name = archive_entry_pathname(e);
  int64_t size = archive_entry_size(e);
  if (!name || archive_entry_filetype(e) != AE_IFREG || !lv_archive_name_ok(name))
    return fail(u, LV_E_CORRUPT, "not a backup of Lavva");
  if (!u->first_seen)
    return strcmp(name, LV__ARCHIVE_FIRST) == 0 ? take_first(u, size)
                                                : fail(u, LV_E_CORRUPT, "not a backup of Lavva");
  if (u->sum) return fail(u, LV_E_CORRUPT, "%s: behind the end", name);
  if (strcmp(name, LV__ARCHIVE_SUM) == 0) return take_text(u, name, size, &u->sum);
  if (u->manifest) return fail(u, LV_E_CORRUPT, "%s: behind the manifest", name);
  if (strcmp(name, LV__ARCHIVE_MANIFEST) != 0) return take_file(u, name);
  int r = take_text(u, name, size, &u->manifest);
  if (r) return r;
  lv__archive_sha(u->sha, u->manifest, (size_t)size);
  lv__archive_hex(u->sha, u->manifest_hex);
  return 0;
}

static int members(unpack *u) {
  for (;;) {
    struct archive_entry *e;
    int r = archive_read_next_header(u->a, &e);
    if (r == ARCHIVE_EOF) return 0;
    if (r != ARCHIVE_OK) return unreadable(u);
    if ((r = take_member(u, e))) return r;
  }
}

/* What was found is what the manifest says, no more and no less. */
static int compare(unpack *u, json_t *m) {
  json_t *files = json_object_get(m, "files"), *f;
  size_t i;
  if (!json_is_array(files)) return fail(u, LV_E_CORRUPT, "the manifest names no files");
  json_array_foreach(files, i, f) {
    const char *name = json_string_value(json_object_get(f, "name"));
    const char *sha = json_string_value(json_object_get(f, "sha256"));
    json_t *got = name ? json_object_get(u->found, name) : NULL;
    if (!got) return fail(u, LV_E_CORRUPT, "%s is missing", name ? name : "a file");
    if (!json_equal(json_object_get(f, "size"), json_object_get(got, "size")) || !sha ||
        strcmp(sha, json_string_value(json_object_get(got, "sha256"))) != 0)
      return fail(u, LV_E_CORRUPT, "%s: wrong checksum", name);
  }
  if (json_array_size(files) != json_object_size(u->found))
    return fail(u, LV_E_CORRUPT, "it has files that its manifest does not name");
  return 0;
}

static int judge(unpack *u, json_t **ret) {
  if (!u->first_seen) return fail(u, LV_E_CORRUPT, "not a backup of Lavva");
  if (!u->manifest || !u->sum) return fail(u, LV_E_CORRUPT, "it ends before its end");
  if (strncmp(u->sum, u->manifest_hex, LV__ARCHIVE_HEX - 1) != 0)
    return fail(u, LV_E_CORRUPT, "manifest.json: wrong checksum");
  json_t *m = json_loads(u->manifest, 0, NULL);
  if (!m) return fail(u, LV_E_CORRUPT, "manifest.json: no JSON");
  int r = check_format(u, m);
  if (!r) r = compare(u, m);
  if (r)
    json_decref(m);
  else
    *ret = m;
  return r;
}

int lv_archive_unpack(int fd, int folder, lv_archive_tick *tick, void *arg, json_t **ret_manifest,
                      char *why) {
  unpack *u = calloc(1, sizeof *u);
  if (!u) abort();
  u->fd = fd;
  u->folder = folder;
  u->tick = tick;
  u->tick_arg = arg;
  u->why = why;
  u->found = json_object();
  u->sha = lv__archive_sha_new();
  u->a = archive_read_new();
  if (!u->a || !u->found) abort();
  (void)archive_read_support_filter_zstd(u->a);
  (void)archive_read_support_filter_gzip(u->a);
  (void)archive_read_support_filter_xz(u->a);
  (void)archive_read_support_format_tar(u->a);
  int r = 0;
  if (archive_read_open(u->a, u, NULL, read_in, NULL) != ARCHIVE_OK) r = unreadable(u);
  if (!r) r = members(u);
  if (!r) r = judge(u, ret_manifest);
  (void)archive_read_free(u->a);
  EVP_MD_CTX_free(u->sha);
  json_decref(u->found);
  free(u->manifest);
  free(u->sum);
  free(u);
  return r;
}
