/* backup.c: `lavva backup`: a data folder as one file, while a server uses it or not.
 *
 *   copy the databases → freeze the logs → copy the control store → note the other files → write
 * all → sync → show
 *
 * The control store is copied after the logs were frozen, so that it knows every channel that they
 * have; the book of usage before, so that what is in the logs behind its mark is counted once more
 * at the next start, and nothing twice. Until it is whole the output has no name (O_TMPFILE), or a
 * hidden one where the file system cannot do that; a backup that is killed leaves nothing that
 * looks like one. Standard output is whole when the exit code is 0, and says so itself to whoever
 * restores it. */
#include "broker/embedded/freeze.h"
#include "cli/archive.h"
#include "cli/commands.h"
#include "cli/dbcopy.h"
#include "cli/progress.h"
#include "core/err.h"
#include "core/time.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct args {
  const char *data, *output;
  bool force, quiet, plain;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("data", 0, "DIR", TEXT, data, 0, 0, "data folder (default lavva-data)"),
    O("output", 'o', "FILE", TEXT, output, 0, 0,
      "where to: a file, a folder (a name with the time\nis made in it), or - for standard output"),
    O("plain", 0, NULL, FLAG, plain, 0, 0, "tar without compression (as for FILE.tar)"),
    O("force", 'f', NULL, FLAG, force, 0, 0, "replace FILE if there is one"),
    O("quiet", 'q', NULL, FLAG, quiet, 0, 0, "no progress and no summary"),
};
#undef O

enum { OTHERS_MAX = 256 };
typedef struct other { /* a file of the folder that is no log's */
  char name[LV_ARCHIVE_NAME];
  int fd; /* -1: a database */
  lv_dbcopy db;
  uint64_t size;
} other;

typedef struct backup {
  const lv_cli_cmd *cmd;
  args a;
  lv_freeze *freeze;
  other others[OTHERS_MAX];
  uint32_t n_others, current;
  lv_archive_out *archive;
  lv_progress progress;
  uint64_t bytes;
  int out, out_dir; /* out_dir -1: standard output */
  char path[PATH_MAX], hidden[64];
  const char *base; /* of path */
  bool named;       /* the output has its hidden name */
  char why[LV_ARCHIVE_WHY];
} backup;

/* ---- the output ---- */

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

static int name_output(backup *b) {
  struct stat st;
  const char *out = b->a.output;
  size_t n = strlen(out);
  bool folder = (stat(out, &st) == 0 && S_ISDIR(st.st_mode)) || (n && out[n - 1] == '/');
  int got;
  if (folder) {
    struct tm tm;
    time_t now = (time_t)(lv_wall_now().ns / 1000000000);
    char stamp[32];
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    got = snprintf(b->path, sizeof b->path, "%s/lavva-%s.tar%s", out, stamp,
                   b->a.plain ? "" : ".zst");
  } else {
    got = snprintf(b->path, sizeof b->path, "%s", out);
  }
  if (got < 0 || (size_t)got >= sizeof b->path || !n) return LV_E_INVALID;
  if (ends_with(b->path, ".tar")) b->a.plain = true;
  return 0;
}

static int open_output(backup *b) {
  char dir[PATH_MAX];
  struct stat at, data;
  b->out = b->out_dir = -1;
  if (strcmp(b->a.output, "-") == 0) {
    if (isatty(STDOUT_FILENO)) return lv_cli_usage(b->cmd, "a backup is not for a terminal");
    b->out = STDOUT_FILENO;
    return 0;
  }
  if (name_output(b)) return lv_cli_fail(b->cmd, "%s: no usable name", b->a.output);
  if (!b->a.force && access(b->path, F_OK) == 0)
    return lv_cli_fail(b->cmd, "%s is there already; --force replaces it", b->path);
  char *slash = strrchr(b->path, '/');
  b->base = slash ? slash + 1 : b->path;
  snprintf(dir, sizeof dir, "%.*s",
           slash == b->path ? 1
           : slash          ? (int)(slash - b->path)
                            : 1,
           slash ? b->path : ".");
  b->out_dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (b->out_dir < 0) return lv_cli_fail(b->cmd, "%s: %s", dir, lv_strerror(errno));
  if (fstat(b->out_dir, &at) == 0 && stat(b->a.data, &data) == 0 && at.st_dev == data.st_dev &&
      at.st_ino == data.st_ino)
    return lv_cli_usage(b->cmd, "%s: nothing but Lavva's files may be in a data folder", b->path);
  b->out = openat(b->out_dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  snprintf(b->hidden, sizeof b->hidden, ".lavva-backup-%ld.tmp", (long)getpid());
  if (b->out >= 0) return 0;
  b->out = openat(b->out_dir, b->hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (b->out < 0) return lv_cli_fail(b->cmd, "%s: %s", b->path, lv_strerror(errno));
  b->named = true;
  return 0;
}

/* Gives the whole file its name. */
static int show(backup *b) {
  char fd_path[64];
  if (fsync(b->out)) return -1;
  if (!b->named) {
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", b->out);
    if (!b->a.force)
      return linkat(AT_FDCWD, fd_path, b->out_dir, b->base, AT_SYMLINK_FOLLOW) ? -1
                                                                               : fsync(b->out_dir);
    (void)unlinkat(b->out_dir, b->hidden, 0); /* of a killed one with our number */
    if (linkat(AT_FDCWD, fd_path, b->out_dir, b->hidden, AT_SYMLINK_FOLLOW)) return -1;
    b->named = true;
  }
  if (renameat(b->out_dir, b->hidden, b->out_dir, b->base)) return -1;
  b->named = false;
  return fsync(b->out_dir);
}

/* ---- the input ---- */

/* What is made anew, or is only of this process. */
static bool left_out(const char *name) {
  static const char *const none[] = {"lock", "dev.env.last"};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++)
    if (strcmp(name, none[i]) == 0) return true;
  return name[0] == '.' || ends_with(name, ".tmp") || lv_freeze_is_log(name) ||
         lv_dbcopy_beside(name);
}

static other *other_new(backup *b, const char *name, uint64_t size) {
  other *o = &b->others[b->n_others++];
  *o = (other){.fd = -1, .size = size};
  snprintf(o->name, sizeof o->name, "%s", name);
  return o;
}

static int note_db(backup *b, const char *name) {
  char why[256] = "";
  lv_dbcopy db;
  int r = lv_dbcopy_read(b->a.data, name, &db, why);
  if (r) return lv_cli_fail(b->cmd, "%s/%s: %s", b->a.data, name, why[0] ? why : lv_err_text(r));
  if (db.bytes) other_new(b, name, db.size)->db = db;
  return 0;
}

static int note_other(backup *b, int dir, const char *name, bool frozen) {
  struct stat st;
  if (left_out(name)) return 0;
  bool db = lv_dbcopy_is(name) && lv_archive_name_ok(name) && b->n_others < OTHERS_MAX;
  bool early = db && strcmp(name, LV_DBCOPY_CONTROL) != 0;
  if (early == frozen) return 0;
  if (db) return note_db(b, name);
  int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return 0; /* gone meanwhile */
  if (fd < 0 && errno != ELOOP && errno != ENXIO)
    return lv_cli_fail(b->cmd, "%s/%s: %s", b->a.data, name, lv_strerror(errno));
  bool usable = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lv_archive_name_ok(name);
  if (usable && b->n_others < OTHERS_MAX) {
    other_new(b, name, (uint64_t)st.st_size)->fd = fd;
    return 0;
  }
  fprintf(stderr, "lavva backup: left out, not Lavva's: %s\n", name);
  if (fd >= 0) (void)close(fd);
  return 0;
}

static int note_others(backup *b, bool frozen) {
  DIR *d = opendir(b->a.data);
  int r = 0;
  if (!d) return lv_cli_fail(b->cmd, "%s: %s", b->a.data, lv_strerror(errno));
  for (struct dirent *e; !r && (e = readdir(d));) r = note_other(b, dirfd(d), e->d_name, frozen);
  (void)closedir(d);
  return r;
}

static int open_input(backup *b) {
  char why[256] = "";
  int r = note_others(b, false);
  if (r) return r;
  r = lv_freeze_open(b->a.data, &b->freeze, why);
  if (r) return lv_cli_fail(b->cmd, "%s: %s", b->a.data, why);
  r = note_others(b, true);
  if (r) return r;
  uint32_t n;
  const lv_freeze_file *files = lv_freeze_files(b->freeze, &n);
  for (uint32_t i = 0; i < n; i++) b->bytes += files[i].size;
  for (uint32_t i = 0; i < b->n_others; i++) b->bytes += b->others[i].size;
  return 0;
}

/* ---- the copy ---- */

static int read_frozen(void *arg, void *dst, uint32_t n, uint64_t at) {
  backup *b = arg;
  int64_t got = lv_freeze_read(b->freeze, b->current, dst, n, at);
  return got < 0 ? (int)got : got == n ? 0 : LV_E_IO;
}

static int read_other(void *arg, void *dst, uint32_t n, uint64_t at) {
  const backup *b = arg;
  const lv_dbcopy *db = &b->others[b->current].db;
  if (db->bytes) memcpy(dst, db->bytes + at, n);
  if (db->bytes) return 0;
  for (uint32_t done = 0; done < n;) {
    ssize_t got = pread(b->others[b->current].fd, (char *)dst + done, n - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return lv_err_from_errno(errno);
    if (got == 0) return LV_E_IO; /* cut while we read */
    done += (uint32_t)got;
  }
  return 0;
}

static json_t *facts(const backup *b) {
  json_t *logs = json_array();
  const lv_freeze_log *l = lv_freeze_logs(b->freeze);
  for (int i = 0; i < LV_FREEZE_LOGS; i++)
    if (l[i].format)
      json_array_append_new(logs, json_pack("{s:s, s:s, s:I, s:i}", "name", l[i].name, "epoch",
                                            l[i].epoch, "end", (json_int_t)l[i].end, "format",
                                            (int)l[i].format));
  json_t *dbs = json_array();
  for (uint32_t i = 0; i < b->n_others; i++)
    if (b->others[i].db.bytes)
      json_array_append_new(dbs, json_pack("{s:s, s:i}", "name", b->others[i].name, "format",
                                           b->others[i].db.format));
  return json_pack("{s:o, s:o}", "logs", logs, "databases", dbs);
}

static int copy(backup *b) {
  uint32_t n;
  const lv_freeze_file *files = lv_freeze_files(b->freeze, &n);
  int r = lv_archive_create(b->out, !b->a.plain, &b->archive, b->why);
  if (r) return r;
  lv_progress_init(&b->progress, "backup", b->bytes, b->a.quiet);
  lv_archive_on_tick(b->archive, lv_progress_add, &b->progress);
  for (b->current = 0; !r && b->current < b->n_others; b->current++) {
    const other *o = &b->others[b->current];
    r = lv_archive_add(b->archive, o->name, o->size, read_other, b, b->why);
  }
  for (b->current = 0; !r && b->current < n; b->current++) {
    const lv_freeze_file *f = &files[b->current];
    r = lv_archive_add(b->archive, f->name, f->size, read_frozen, b, b->why);
  }
  if (!r) r = lv_archive_finish(b->archive, facts(b), b->why);
  lv_progress_end(&b->progress);
  return r;
}

static void summary(const backup *b) {
  struct stat st;
  char in[16], packed[16];
  uint32_t n;
  (void)lv_freeze_files(b->freeze, &n);
  if (b->a.quiet) return;
  n += b->n_others;
  if (b->out_dir < 0)
    fprintf(stderr, "OK %s: %u files, %s\n", b->a.data, n, lv_progress_bytes(b->bytes, in));
  else if (fstat(b->out, &st) == 0)
    printf("OK %s: %u files, %s in %s\n", b->path, n, lv_progress_bytes(b->bytes, in),
           lv_progress_bytes((uint64_t)st.st_size, packed));
}

static void done(backup *b) {
  lv_archive_free(b->archive);
  lv_freeze_close(b->freeze);
  for (uint32_t i = 0; i < b->n_others; i++) {
    lv_dbcopy_done(&b->others[i].db);
    if (b->others[i].fd >= 0) (void)close(b->others[i].fd);
  }
  if (b->out_dir < 0) return;
  if (b->named) (void)unlinkat(b->out_dir, b->hidden, 0);
  if (b->out >= 0) (void)close(b->out);
  (void)close(b->out_dir);
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  static backup b; /* large */
  b = (backup){.cmd = cmd, .a = {.data = "lavva-data"}, .out = -1, .out_dir = -1};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &b.a, &n, &r)) return r;
  if (n) return lv_cli_usage(cmd, "unexpected argument %s; -o names the output", argv[1]);
  if (!b.a.output) return lv_cli_usage(cmd, "where to? Say -o FILE, or -o - for standard output");
  signal(SIGPIPE, SIG_IGN);
  umask(077);
  r = open_input(&b);
  if (!r) r = open_output(&b);
  if (!r && (r = copy(&b))) r = lv_cli_fail(cmd, "%s", b.why);
  if (!r && b.out_dir >= 0 && show(&b)) r = lv_cli_fail(cmd, "%s: %s", b.path, lv_strerror(errno));
  if (!r) summary(&b);
  done(&b);
  return r;
}

const lv_cli_cmd lv_cli_backup = {
    .name = "backup",
    .usage = "-o FILE|FOLDER|- [OPTIONS]",
    .summary = "Copies a data folder into one file, also while a server uses it",
    .about = "Everything that was acknowledged before it began is in it: messages, sessions, "
             "retained\n"
             "messages, Idempotency-Keys, the control store, certificates and keys of the folder "
             "(keep\n"
             "the file as safe as these). The configuration is a file of its own; keep a copy "
             "beside it.\n"
             "The server goes on; space that it frees meanwhile is given back when the backup "
             "ends.\n"
             "\n"
             "FILE is a tar archive, compressed with zstd, with a checksum for everything in it; "
             "it\n"
             "appears when it is whole. `lavva restore` reads it.\n"
             "Exit codes: 0 made, 1 failed, 64 wrong arguments.\n",
    .examples = "  lavva backup -o lavva.tar.zst\n"
                "  lavva backup --data /var/lib/lavva -o /var/backups/\n"
                "  lavva backup -o - | ssh elsewhere 'cat >lavva.tar.zst'\n",
    LV_CLI_OPTS(opts),
    .run = run};
