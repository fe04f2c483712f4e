/* restore.c: `lavva restore`: a data folder from a backup, all of it or nothing.
 *
 *   unpack into .NAME.restore beside the folder → checksums → each record's checksum →
 *   databases → new epochs → sync → one rename puts it in place
 *
 * A folder that is replaced (--force) changes places with the new one in that same step and is kept
 * as NAME.old-TIME. A restore that is killed leaves .NAME.restore, which the next one removes;
 * while one runs it holds a lock on a file in it.
 *
 * The restored logs begin new epochs: customers may have seen positions behind the backup, which
 * must not come to mean other messages. Who resumes from one is told of the gap. */
#include "broker/embedded/freeze.h"
#include "broker/embedded/logtool.h"
#include "cli/archive.h"
#include "cli/commands.h"
#include "cli/dbcopy.h"
#include "cli/progress.h"
#include "core/err.h"
#include "core/time.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct args {
  const char *data;
  bool force, quiet, check;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("data", 0, "DIR", TEXT, data, 0, 0, "folder to make (default lavva-data)"),
    O("force", 'f', NULL, FLAG, force, 0, 0,
      "DIR may have files: it is kept as DIR.old-TIME.\nAlso puts up with records that were "
      "damaged "
      "before\nthe backup was made"),
    O("check", 0, NULL, FLAG, check, 0, 0, "only check FILE; restore nothing"),
    O("quiet", 'q', NULL, FLAG, quiet, 0, 0, "no progress and no summary"),
};
#undef O

typedef struct restore {
  const lv_cli_cmd *cmd;
  args a;
  const char *from;
  int in, parent, tmp, guard, lock;
  bool exists, filled; /* DIR */
  struct stat like;    /* owner and mode of the new folder */
  char path[PATH_MAX], name[256], tmp_name[300], tmp_path[PATH_MAX + 300];
  json_t *manifest;
  lv_progress progress;
  uint64_t records;
  char why[LV_ARCHIVE_WHY];
} restore;

/* ---- where to ---- */

#define GUARD ".restoring"

static bool dot(const char *name) {
  return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Removes the files of a folder; subfolders stay, and make rmdir fail. */
static void empty_folder(int fd) {
  int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = again < 0 ? NULL : fdopendir(again);
  if (!d && again >= 0) (void)close(again);
  for (struct dirent *e; d && (e = readdir(d));)
    if (!dot(e->d_name) && strcmp(e->d_name, GUARD) != 0) (void)unlinkat(fd, e->d_name, 0);
  if (d) (void)closedir(d);
}

static bool has_files(const char *path) {
  DIR *d = opendir(path);
  bool any = false;
  for (struct dirent *e; d && !any && (e = readdir(d));) any = !dot(e->d_name);
  if (d) (void)closedir(d);
  return any;
}

/* Splits DIR, symbolic links followed, into its parent and its name. */
static int split(restore *r) {
  char given[PATH_MAX];
  size_t n = strlen(r->a.data);
  while (n > 1 && r->a.data[n - 1] == '/') n--;
  if (n == 0 || n >= sizeof given) return LV_E_INVALID;
  snprintf(given, sizeof given, "%.*s", (int)n, r->a.data);
  r->exists = realpath(given, r->path) != NULL;
  if (!r->exists) {
    char *slash = strrchr(given, '/'), up[PATH_MAX];
    const char *name = slash ? slash + 1 : given;
    if (errno != ENOENT || !*name || dot(name) || strlen(name) >= sizeof r->name)
      return errno == ENOENT ? LV_E_INVALID : lv_err_from_errno(errno);
    snprintf(up, sizeof up, "%.*s",
             slash == given ? 1
             : slash        ? (int)(slash - given)
                            : 1,
             slash ? given : ".");
    if (!realpath(up, r->path)) return lv_err_from_errno(errno);
    size_t len = strlen(r->path);
    if (len + strlen(name) + 2 > sizeof r->path) return LV_E_INVALID;
    snprintf(r->path + len, sizeof r->path - len, "/%s", name);
  }
  char *slash = strrchr(r->path, '/');
  if (!slash[1] || strlen(slash + 1) >= sizeof r->name) return LV_E_INVALID;
  snprintf(r->name, sizeof r->name, "%s", slash + 1);
  return 0;
}

static int open_parent(restore *r) {
  char up[PATH_MAX];
  const char *slash = strrchr(r->path, '/');
  snprintf(up, sizeof up, "%.*s", slash == r->path ? 1 : (int)(slash - r->path), r->path);
  r->parent = open(up, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (r->parent < 0 || fstat(r->parent, &r->like))
    return lv_cli_fail(r->cmd, "%s: %s", up, lv_strerror(errno));
  r->like.st_mode = 0750;
  return 0;
}

/* A folder with files is refused, or locked against a server. */
static int look_at_target(restore *r) {
  if (!r->exists) return 0;
  if (stat(r->path, &r->like) || !S_ISDIR(r->like.st_mode))
    return lv_cli_fail(r->cmd, "%s is not a folder", r->a.data);
  r->filled = has_files(r->path);
  if (!r->filled) return 0;
  if (!r->a.force)
    return lv_cli_fail(r->cmd, "%s has files; --force replaces it, and keeps it under another name",
                       r->a.data);
  int dir = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  r->lock = dir < 0 ? -1 : openat(dir, "lock", O_RDONLY | O_CLOEXEC);
  if (dir >= 0) (void)close(dir);
  if (r->lock >= 0 && flock(r->lock, LOCK_EX | LOCK_NB))
    return lv_cli_fail(r->cmd, "%s: %s; stop it first", r->a.data, lv_err_text(LV_E_LOCKED));
  return 0;
}

static int make_tmp(restore *r) {
  snprintf(r->tmp_name, sizeof r->tmp_name, ".%s.restore", r->name);
  snprintf(r->tmp_path, sizeof r->tmp_path, "%.*s%s", (int)(strlen(r->path) - strlen(r->name)),
           r->path, r->tmp_name);
  if (mkdirat(r->parent, r->tmp_name, 0700) && errno != EEXIST)
    return lv_cli_fail(r->cmd, "%s: %s", r->tmp_path, lv_strerror(errno));
  int fd = openat(r->parent, r->tmp_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return lv_cli_fail(r->cmd, "%s: %s", r->tmp_path, lv_strerror(errno));
  r->guard = openat(fd, GUARD, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (r->guard < 0 || flock(r->guard, LOCK_EX | LOCK_NB)) {
    int eno = errno;
    (void)close(fd);
    return lv_cli_fail(r->cmd, "%s: %s", r->tmp_path,
                       eno == EWOULDBLOCK ? "another restore is at work" : lv_strerror(eno));
  }
  r->tmp = fd;
  empty_folder(fd); /* of one that was killed */
  return 0;
}

/* ---- what ---- */

static int open_input(restore *r) {
  struct stat st;
  r->in = strcmp(r->from, "-") == 0 ? STDIN_FILENO : open(r->from, O_RDONLY | O_CLOEXEC);
  if (r->in < 0 || fstat(r->in, &st))
    return lv_cli_fail(r->cmd, "%s: %s", r->from, lv_strerror(errno));
  if (S_ISDIR(st.st_mode)) return lv_cli_fail(r->cmd, "%s is a folder; name the file", r->from);
  lv_progress_init(&r->progress, r->a.check ? "check" : "restore",
                   S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, r->a.quiet);
  return 0;
}

static int unpack(restore *r) {
  int err = lv_archive_unpack(r->in, r->a.check ? -1 : r->tmp, lv_progress_add, &r->progress,
                              &r->manifest, r->why);
  lv_progress_end(&r->progress);
  if (!err) return 0;
  const char *kind = err == LV_E_CORRUPT ? "damaged or not whole: " : "";
  return lv_cli_fail(r->cmd, "%s: %s%s; nothing was restored", r->from, kind, r->why);
}

static void on_finding(void *arg, const char *text) {
  (void)arg;
  fprintf(stderr, "lavva restore: %s\n", text);
}

static int check_dbs(restore *r) {
  json_t *files = json_object_get(r->manifest, "files"), *f;
  char why[256] = "";
  size_t i;
  json_array_foreach(files, i, f) {
    const char *name = json_string_value(json_object_get(f, "name"));
    if (lv_dbcopy_is(name) && lv_dbcopy_check(r->tmp_path, name, why))
      return lv_cli_fail(r->cmd, "%s: %s: %s", r->from, name, why);
  }
  return 0;
}

/* The archive is what was backed up; is that sound? */
static int verify(restore *r) {
  int err = lv_logtool_verify(r->tmp_path, on_finding, NULL, &r->records);
  if (err == LV_E_CORRUPT && r->a.force) err = 0;
  if (err == LV_E_CORRUPT)
    return lv_cli_fail(r->cmd,
                       "%s: records were damaged when the backup was made; --force "
                       "restores the others",
                       r->from);
  if (err) return lv_cli_fail(r->cmd, "%s: %s", r->from, lv_err_text(err));
  return check_dbs(r);
}

static int thaw(restore *r) {
  char why[256];
  int err = lv_freeze_thaw(r->tmp_path, why);
  return err ? lv_cli_fail(r->cmd, "%s: %s", r->from, why) : 0;
}

/* Everything belongs to whom the folder belonged, and is on the disk. */
static int settle(restore *r) {
  int again = openat(r->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), bad = 0;
  DIR *d = again < 0 ? NULL : fdopendir(again);
  if (!d) return lv_cli_fail(r->cmd, "%s: %s", r->tmp_path, lv_strerror(errno));
  bool own = geteuid() == 0;
  (void)unlinkat(r->tmp, GUARD, 0);
  for (struct dirent *e; !bad && (e = readdir(d));) {
    if (dot(e->d_name)) continue;
    int fd = openat(r->tmp, e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bad = fd < 0 || (own && fchown(fd, r->like.st_uid, r->like.st_gid)) || fsync(fd);
    if (fd >= 0) (void)close(fd);
  }
  if (!bad && own) bad = fchown(r->tmp, r->like.st_uid, r->like.st_gid);
  if (!bad) bad = fchmod(r->tmp, r->like.st_mode & 07777) || fsync(r->tmp);
  int eno = errno;
  (void)closedir(d);
  return bad ? lv_cli_fail(r->cmd, "%s: %s", r->tmp_path, lv_strerror(eno)) : 0;
}

/* The folder that was there gets a name that says when. */
static void keep_old(const restore *r) {
  char old[340], stamp[32];
  struct tm tm;
  time_t now = (time_t)(lv_wall_now().ns / 1000000000);
  gmtime_r(&now, &tm);
  strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
  snprintf(old, sizeof old, "%s.old-%s", r->name, stamp);
  const char *is = old;
  if (renameat2(r->parent, r->tmp_name, r->parent, old, RENAME_NOREPLACE)) is = r->tmp_name;
  if (!r->a.quiet)
    printf("what was there is %.*s%s\n", (int)(strlen(r->path) - strlen(r->name)), r->path, is);
}

static int put_in_place(restore *r) {
  int bad = r->filled ? renameat2(r->parent, r->tmp_name, r->parent, r->name, RENAME_EXCHANGE)
                      : renameat(r->parent, r->tmp_name, r->parent, r->name);
  if (bad && errno == EBUSY)
    return lv_cli_fail(r->cmd,
                       "%s is where a file system is mounted; restore into a folder on it "
                       "and move the files",
                       r->a.data);
  if (bad && errno == ENOTEMPTY)
    return lv_cli_fail(r->cmd, "%s: somebody put files there meanwhile", r->a.data);
  if (bad) return lv_cli_fail(r->cmd, "%s: %s", r->a.data, lv_strerror(errno));
  (void)close(r->tmp);
  r->tmp = -1;
  if (fsync(r->parent)) return lv_cli_fail(r->cmd, "%s: %s", r->a.data, lv_strerror(errno));
  if (r->filled) keep_old(r);
  return 0;
}

static void summary(const restore *r) {
  const char *created = json_string_value(json_object_get(r->manifest, "created"));
  const char *version = json_string_value(json_object_get(r->manifest, "version"));
  if (r->a.quiet) return;
  printf("OK %s: made %s by Lavva %s, %zu files", r->from, created ? created : "?",
         version ? version : "?", json_array_size(json_object_get(r->manifest, "files")));
  if (r->a.check)
    puts("");
  else
    printf(", %" PRIu64 " records; in %s\n", r->records, r->a.data);
}

static void done(restore *r) {
  if (r->tmp >= 0) {
    empty_folder(r->tmp);
    (void)unlinkat(r->tmp, GUARD, 0);
    (void)unlinkat(r->parent, r->tmp_name, AT_REMOVEDIR);
    (void)close(r->tmp);
  }
  if (r->guard >= 0) (void)close(r->guard);
  if (r->lock >= 0) (void)close(r->lock);
  if (r->parent >= 0) (void)close(r->parent);
  if (r->in > STDIN_FILENO) (void)close(r->in);
  json_decref(r->manifest);
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  restore r = {.cmd = cmd,
               .a = {.data = "lavva-data"},
               .in = -1,
               .parent = -1,
               .tmp = -1,
               .guard = -1,
               .lock = -1};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &r.a, &n, &code)) return code;
  if (n != 1) return lv_cli_usage(cmd, n ? "one FILE at a time" : "which FILE?");
  r.from = argv[1];
  umask(027);
  code = open_input(&r);
  if (!code && !r.a.check) {
    int err = split(&r);
    if (err) code = lv_cli_fail(cmd, "%s: %s", r.a.data, lv_err_text(err));
    if (!code) code = open_parent(&r);
    if (!code) code = look_at_target(&r);
    if (!code) code = make_tmp(&r);
  }
  if (!code) code = unpack(&r);
  if (!code && !r.a.check) {
    code = verify(&r);
    if (!code) code = thaw(&r);
    if (!code) code = settle(&r);
    if (!code) code = put_in_place(&r);
  }
  if (!code) summary(&r);
  done(&r);
  return code;
}

const lv_cli_cmd lv_cli_restore = {
    .name = "restore",
    .usage = "[OPTIONS] FILE|-",
    .summary = "Makes a data folder from a backup: all of it, or nothing",
    .about =
        "FILE is checked, every record in it too, before DIR is touched. DIR is made, or empty, "
        "or\n"
        "replaced with --force; no server may use it. As root the new files belong to the owner "
        "of\n"
        "DIR, or of the folder it is made in.\n"
        "\n"
        "Messages after the backup are not there. The logs begin new epochs: customers that "
        "resume\n"
        "from an earlier position are told of a gap, and no position they saw is used again.\n"
        "Exit codes: 0 restored, 1 refused or failed (DIR is as it was), 64 wrong arguments.\n",
    .examples = "  lavva restore lavva.tar.zst --data /var/lib/lavva\n"
                "  lavva restore --check lavva.tar.zst\n"
                "  ssh elsewhere cat lavva.tar.zst | lavva restore - --data new\n",
    LV_CLI_OPTS(opts),
    .run = run};
