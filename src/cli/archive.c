/* archive.c: the writing half of archive.h, on libarchive.
 *
 * Members are written as they are read, with a piece of 256 KiB in memory; their checksums go into
 * the manifest, which is therefore last. Sizes are known before: tar wants them in front.
 *
 * @thread one */
#include "cli/archive_int.h"
#include "core/err.h"
#include "core/time.h"
#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lv_archive_out {
  struct archive *a;
  EVP_MD_CTX *sha;
  json_t *files;
  char created[32];
  int64_t seconds;
  lv_archive_tick *tick;
  void *tick_arg;
  uint8_t piece[LV__ARCHIVE_PIECE];
};

bool lv_archive_name_ok(const char *name) {
  static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  size_t n = strlen(name);
  return n > 0 && n < LV_ARCHIVE_NAME && name[0] != '.' && strspn(name, good) == n;
}

EVP_MD_CTX *lv__archive_sha_new(void) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) abort();
  return ctx;
}

void lv__archive_sha(EVP_MD_CTX *ctx, const void *p, size_t n) {
  if (EVP_DigestUpdate(ctx, p, n) != 1) abort();
}

void lv__archive_hex(EVP_MD_CTX *ctx, char ret[LV__ARCHIVE_HEX]) {
  uint8_t d[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (EVP_DigestFinal_ex(ctx, d, &n) != 1 || n != 32) abort();
  if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) abort();
  for (unsigned i = 0; i < n; i++) snprintf(ret + 2 * i, 3, "%02x", d[i]);
}

/* libarchive's complaint as ours. */
static int failed(struct archive *a, char *why) {
  int eno = archive_errno(a);
  snprintf(why, LV_ARCHIVE_WHY, "%s", archive_error_string(a) ? archive_error_string(a) : "?");
  return eno > 0 ? lv_err_from_errno(eno) : LV_E_IO;
}

static json_t *head_of(const lv_archive_out *out) {
  return json_pack("{s:i, s:s, s:s}", "format", LV_ARCHIVE_FORMAT, "version", LV_VERSION, "created",
                   out->created);
}

static int header(lv_archive_out *out, const char *name, uint64_t size, char *why) {
  struct archive_entry *e = archive_entry_new();
  if (!e) abort();
  archive_entry_set_pathname(e, name);
  archive_entry_set_size(e, (int64_t)size);
  archive_entry_set_filetype(e, AE_IFREG);
  archive_entry_set_perm(e, 0600);
  archive_entry_set_mtime(e, (time_t)out->seconds, 0);
  int r = archive_write_header(out->a, e);
  archive_entry_free(e);
  return r == ARCHIVE_OK ? 0 : failed(out->a, why);
}

static int data(lv_archive_out *out, const void *p, size_t n, char *why) {
  return archive_write_data(out->a, p, n) == (la_ssize_t)n ? 0 : failed(out->a, why);
}

static int add_text(lv_archive_out *out, const char *name, const char *text, char *why) {
  size_t n = strlen(text);
  int r = header(out, name, n, why);
  return r ? r : data(out, text, n, why);
}

int lv_archive_create(int fd, bool zstd, lv_archive_out **ret_out, char *why) {
  lv_archive_out *out = calloc(1, sizeof *out);
  if (!out) abort();
  lv_wall now = lv_wall_now();
  lv_time_format(now, out->created, sizeof out->created);
  out->seconds = now.ns / 1000000000;
  out->files = json_array();
  out->sha = lv__archive_sha_new();
  out->a = archive_write_new();
  if (!out->a || !out->files) abort();
  (void)archive_write_set_format_pax_restricted(out->a);
  (void)archive_write_set_bytes_in_last_block(out->a, 1);
  int r = 0;
  if (zstd && archive_write_add_filter_zstd(out->a) != ARCHIVE_OK) r = failed(out->a, why);
  if (!r && archive_write_open_fd(out->a, fd) != ARCHIVE_OK) r = failed(out->a, why);
  json_t *head = head_of(out);
  char *text = json_dumps(head, JSON_INDENT(1));
  if (!r) r = add_text(out, LV__ARCHIVE_FIRST, text, why);
  free(text);
  json_decref(head);
  if (r)
    lv_archive_free(out);
  else
    *ret_out = out;
  return r;
}

void lv_archive_on_tick(lv_archive_out *out, lv_archive_tick *tick, void *arg) {
  out->tick = tick;
  out->tick_arg = arg;
}

int lv_archive_add(lv_archive_out *out, const char *name, uint64_t size, lv_archive_read *read,
                   void *arg, char *why) {
  char hex[LV__ARCHIVE_HEX];
  assert(lv_archive_name_ok(name));
  int r = header(out, name, size, why);
  for (uint64_t at = 0; !r && at < size;) {
    uint32_t n = size - at < sizeof out->piece ? (uint32_t)(size - at) : sizeof out->piece;
    r = read(arg, out->piece, n, at);
    if (r) {
      snprintf(why, LV_ARCHIVE_WHY, "%s: %s", name, lv_err_text(r));
      return r;
    }
    lv__archive_sha(out->sha, out->piece, n);
    r = data(out, out->piece, n, why);
    at += n;
    if (out->tick) out->tick(out->tick_arg, n);
  }
  lv__archive_hex(out->sha, hex);
  json_array_append_new(out->files, json_pack("{s:s, s:I, s:s}", "name", name, "size",
                                              (json_int_t)size, "sha256", hex));
  return r;
}

int lv_archive_finish(lv_archive_out *out, json_t *facts, char *why) {
  char sum[LV__ARCHIVE_HEX + 32], hex[LV__ARCHIVE_HEX];
  json_t *m = head_of(out);
  json_object_update(m, facts);
  json_object_set(m, "files", out->files);
  json_decref(facts);
  char *text = json_dumps(m, JSON_INDENT(1));
  json_decref(m);
  if (!text) abort();
  lv__archive_sha(out->sha, text, strlen(text));
  lv__archive_hex(out->sha, hex);
  snprintf(sum, sizeof sum, "%s  %s\n", hex, LV__ARCHIVE_MANIFEST);
  int r = add_text(out, LV__ARCHIVE_MANIFEST, text, why);
  free(text);
  if (!r) r = add_text(out, LV__ARCHIVE_SUM, sum, why);
  if (!r && archive_write_close(out->a) != ARCHIVE_OK) r = failed(out->a, why);
  return r;
}

void lv_archive_free(lv_archive_out *out) {
  if (!out) return;
  if (out->a) {
    (void)archive_write_fail(out->a); /* no end marks behind what is not whole */
    (void)archive_write_free(out->a);
  }
  EVP_MD_CTX_free(out->sha);
  json_decref(out->files);
  free(out);
}
