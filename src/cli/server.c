/* server.c: see server.h. */
#include "cli/server.h"
#include "broker/broker.h"
#include "broker/embedded/disk.h"
#include "core/buf.h"
#include "core/log.h"
#include "gateway/gateway.h"
#include "hub/hub.h"
#include "master/master.h"
#include "master/usage.h"
#include "net/http.h"
#include "net/http_ops.h"
#include "net/ws.h"
#include "web/web.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

struct lv_server {
  lv_conf *conf; /* of the start: folder and listeners */
  lv_conf *now;  /* in force. @thread master, while it runs */
  lv_master *master;
  lv_disk *disk;
  lv_broker *broker;
  lv_realm *realm;
  lv_gateway *gateway;
  lv_hub *hub;
  lv_usage_book *usage;
  lv_router *router;
  lv_http_server http;
  lv_http_ops ops;
  lv_net *net;
  lv_loop *loops[LV_LOOPS_MAX];
  int n_loops;
  bool started[LV_LOOPS_MAX];
  uint32_t asked[LV_LOOPS_MAX];
  _Atomic uint32_t answered[LV_LOOPS_MAX];
  char data_dir[4096];
  uint64_t disk_reserve;
  _Atomic uint64_t conns_max, queue_max; /* of the document, for /metrics */
};

static int open_broker(lv_server *s, char *why) {
  char dir[4096];
  snprintf(dir, sizeof dir, "%.*s", (int)s->conf->data_dir.n, s->conf->data_dir.p);
  lv_embedded_conf c = {.dir = dir,
                        .segment_bytes = s->conf->segment_bytes,
                        .tail_bytes = s->conf->tail_bytes,
                        .disk_reserve_bytes = s->conf->disk_reserve_bytes,
                        .sync_interval_ms = s->conf->sync_interval_ms,
                        .disk = s->disk,
                        .visible = lv_realm_visible,
                        .visible_arg = s->realm};
  return lv_embedded_open(&c, &s->broker, why);
}

const char *lv_server_folder_hint(int err) {
  switch (err) {
  case LV_E_DISK_FULL: return "; free space there, or move the folder to a larger disk";
  case LV_E_FORBIDDEN:
    return "; it must be writable for this user, on a file system that is not read-only";
  case LV_E_INVALID: return "; it is not a folder, or its name is too long";
  case LV_E_IO: return "; look for the disk's errors in the kernel's log (dmesg)";
  case LV_E_LOCKED: return "; stop that one, or give this one another --data";
  case LV_E_CORRUPT: return "; see `lavva log verify`, or restore a backup";
  case LV_E_FORMAT: return "; run the version that wrote it, or a newer one";
  default: return "";
  }
}

/* Broker and realm know what failed; where that is, and what to do, is said here. */
static int tell_folder(const lv_server *s, int err, char *why) {
  char what[256];
  if (!err) return 0;
  snprintf(what, sizeof what, "%s", *why ? why : lv_err_text(err));
  snprintf(why, 512, "%.*s: %s%s", (int)s->conf->data_dir.n, (const char *)s->conf->data_dir.p,
           what, lv_server_folder_hint(err));
  return err;
}

int lv_server_folder(const char *dir, lv_disk **ret_disk) {
  lv_disk *disk = NULL;
  int err = lv_disk_file_new(dir, &disk);
  if (err) return err;
  err = disk->ops->lock(disk);
  if (err) {
    disk->ops->free(disk);
    return err;
  }
  *ret_disk = disk;
  return 0;
}

typedef struct lv_start_arg {
  lv_server *server;
  int err;
} lv_start_arg;

static void loop_init(lv_loop *loop, void *arg) {
  lv_start_arg *st = arg;
  lv_server *s = st->server;
  st->err = lv_gateway_loop_init(s->gateway, loop);
  if (!st->err) st->err = lv_hub_loop_init(s->hub, loop, lv_gateway_shard(s->gateway, loop));
}

static int start_loops(lv_server *s, char *why) {
  for (int i = 0; i < s->n_loops; i++) {
    lv_start_arg st = {.server = s};
    int err = lv_loop_start(s->loops[i], loop_init, &st);
    s->started[i] = err == 0;
    if (!err) err = st.err;
    if (err) {
      snprintf(why, 512, "starting loop %d: %s", i, lv_err_text(err));
      return err;
    }
  }
  return 0;
}

/* One core is left to the sync thread, the keeper and the kernel's part of network and disk: a loop
 * more than fits takes turns with them, and with its clients on a small machine; its turns get
 * shorter and a message costs more (bench/README.md). */
static int loops_wanted(const lv_conf *conf) {
  int cores = lv_cores();
  if (conf->threads) return (int)conf->threads;
  return cores > 1 ? cores - 1 : 1;
}

static int make_loops(lv_server *s, char *why) {
  s->n_loops = loops_wanted(s->conf);
  if (s->n_loops > LV_LOOPS_MAX) s->n_loops = LV_LOOPS_MAX;
  for (int i = 0; i < s->n_loops; i++) {
    int err = lv_loop_new(i, &s->loops[i]);
    if (err) {
      snprintf(why, 512, "making loop %d: %s", i, lv_err_text(err));
      return err;
    }
  }
  return 0;
}

/* What an operator must mend: publishers are refused meanwhile, subscribers are served. */
static bool trouble(void *arg, char *text, size_t size) {
  const lv_server *s = arg;
  lv_broker_desc d;
  if (s->broker->ops->describe(s->broker, &d) || d.healthy) return false;
  snprintf(text, size, "%s (data folder %.*s)", d.detail, (int)s->conf->data_dir.n,
           (const char *)s->conf->data_dir.p);
  return true;
}

static int open_net(lv_server *s, char *why) {
  lv_accept accept[LV_PROTO_COUNT];
  lv_accept http = {.on_accept = lv_http_on_accept, .arg = &s->http};
  s->router = lv_router_new();
  s->ops.trouble = trouble;
  s->ops.trouble_arg = s;
  lv_http_ops_routes(&s->ops, s->router);
  lv_gateway_routes(s->gateway, s->router, s->conf);
  lv_hub_routes(s->hub, s->router);
  lv_master_attach(s->master, s->conf, s->realm, s->broker, s->router);
  lv_web_routes(s->router);
  if (!s->conf->path) lv_ws_echo_route(s->router); /* a development instance */
  lv_http_server_init(&s->http, s->router, s->conf);
  accept[LV_PROTO_MQTT] = accept[LV_PROTO_MQTTS] = lv_gateway_accept(s->gateway);
  accept[LV_PROTO_HTTP] = accept[LV_PROTO_HTTPS] = http;
  return lv_net_open(s->loops, s->n_loops, s->conf, accept, &s->net, why);
}

/* What the broker says of itself. @thread libuv's pool */
static void put_broker(lv_broker *broker, lv_buf *b) {
  lv_broker_desc d;
  if (broker->ops->describe(broker, &d)) return;
  lv_metrics_put(b, "lavva_broker_up", "gauge", "1 while the broker takes messages", d.healthy);
  lv_metrics_put(b, "lavva_broker_queue_bytes", "gauge",
                 "Bytes published and not yet written and synced", (double)d.queued_bytes);
  lv_metrics_put(b, "lavva_broker_feed_bytes", "gauge",
                 "Bytes that wait for the loops whose subscribers want them", (double)d.feed_bytes);
  lv_metrics_put(b, "lavva_broker_disk_bytes", "gauge", "Size of the embedded log's files",
                 (double)d.disk_bytes);
  lv_metrics_put(b, "lavva_broker_tail_bytes", "gauge", "Newest messages kept in memory",
                 (double)d.tail_bytes);
  lv_metrics_put(b, "lavva_blocks_bytes", "gauge",
                 "Memory of records and frames: tail, queues, snapshots", (double)lv_block_bytes());
  lv_metrics_put(b, "lavva_broker_segments", "gauge", "Files of the embedded log",
                 (double)d.segments);
  lv_metrics_put(b, "lavva_broker_channels", "gauge", "Channels of all apps", (double)d.channels);
  lv_metrics_put(b, "lavva_broker_under_replicated_partitions", "gauge",
                 "Partitions with fewer copies than asked for; the embedded log has one copy, so 0",
                 0);
}

/* What the gauges of /metrics are to be compared with. @thread libuv's pool */
static void put_limits(const lv_server *s, lv_buf *b) {
  struct statvfs fs;
  if (statvfs(s->data_dir, &fs) == 0)
    lv_metrics_put(b, "lavva_broker_disk_free_bytes", "gauge", "Free space of the data folder",
                   (double)fs.f_bavail * (double)fs.f_frsize);
  lv_metrics_put(b, "lavva_broker_disk_reserve_bytes", "gauge",
                 "Publishing stops while less is free (storage.reserve)", (double)s->disk_reserve);
  lv_metrics_put(b, "lavva_connections_limit", "gauge", "Connections that are let in at most",
                 (double)atomic_load(&s->conns_max));
  lv_metrics_put(b, "lavva_publish_queue_limit_bytes", "gauge",
                 "Where lavva_publish_queue_bytes pauses reading, all loops together",
                 (double)atomic_load(&s->queue_max) * s->n_loops);
}

static void put_more(void *arg, lv_buf *b) {
  const lv_server *s = arg;
  put_broker(s->broker, b);
  put_limits(s, b);
}

static void take_limits(lv_server *s, const lv_conf *conf) {
  atomic_store(&s->conns_max, conf->limits.connections);
  atomic_store(&s->queue_max, conf->publish_queue_bytes);
}

int lv_server_start(lv_conf *conf, lv_disk *disk, lv_master *master, lv_server **ret_server,
                    char *why) {
  lv_server *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->disk = disk;
  s->conf = lv_conf_ref(conf);
  s->disk_reserve = conf->disk_reserve_bytes;
  snprintf(s->data_dir, sizeof s->data_dir, "%.*s", (int)conf->data_dir.n, conf->data_dir.p);
  take_limits(s, conf);
  s->now = lv_conf_ref(conf);
  s->master = master;
  *why = 0;
  int err = lv_realm_new(conf, &lv_gateway_link_ops, &s->realm);
  if (!err) err = tell_folder(s, open_broker(s, why), why);
  if (!err) s->usage = lv_usage_open(s->master, s->broker);
  if (!err) err = make_loops(s, why);
  if (!err) err = lv_gateway_new(s->realm, &s->gateway);
  if (!err)
    err = tell_folder(s, lv_realm_open(s->realm, s->broker, s->loops, s->n_loops, why), why);
  if (!err) err = lv_hub_new(s->realm, s->broker, &s->hub);
  if (!err) err = start_loops(s, why);
  lv_metrics_role("serve");
  if (!err) lv_metrics_source(put_more, s);
  if (!err) err = open_net(s, why);
  if (err) {
    if (!*why) snprintf(why, 512, "%s", lv_err_text(err));
    lv_server_stop(s);
    return err;
  }
  atomic_store(&s->ops.ready, LV_READY_YES);
  *ret_server = s;
  return 0;
}

const char *lv_server_listener(const lv_server *s, uint32_t i, uint8_t *ret_proto) {
  if (i >= s->conf->n_listens) return NULL;
  *ret_proto = s->conf->listens[i].proto;
  return lv_net_address(s->net, i);
}

static void nothing(lv_loop *loop, void *arg) {
  (void)loop;
  (void)arg;
}

/* Mail is in order: what the realm posted has run once a later letter has. */
int lv_server_reload(lv_server *s, lv_conf *conf, bool whole, char *why) {
  int err = whole ? lv_net_reload(s->net, conf, why) : 0;
  if (err) return err;
  if (whole) lv_log_set_level(conf->log_level);
  lv_realm_reload(s->realm, conf);
  for (int i = 0; i < s->n_loops; i++) lv_loop_call_wait(s->loops[i], nothing, NULL);
  lv_conf_unref(s->now);
  s->now = lv_conf_ref(conf);
  take_limits(s, conf);
  return 0;
}

static void quiesce(lv_loop *loop, void *arg) {
  lv_server *s = arg;
  lv_hub_loop_quiesce(s->hub, loop);
  lv_gateway_loop_quiesce(s->gateway, loop);
}

uint32_t lv_server_stop(lv_server *s) {
  uint32_t cut = 0;
  atomic_store(&s->ops.ready, LV_READY_DRAINING);
  lv_master_stop(s->master); /* `now` stays as it is from here on */
  if (s->net) cut = lv_net_shutdown(s->net, s->now->drain_ms);
  for (int i = 0; i < s->n_loops; i++)
    if (s->started[i]) lv_loop_call_wait(s->loops[i], quiesce, s);
  for (int i = 0; i < s->n_loops; i++)
    if (s->started[i]) lv_loop_stop(s->loops[i]);
  lv_metrics_source(NULL, NULL);
  lv_usage_flush(s->usage);
  if (s->broker) s->broker->ops->close(s->broker);
  lv_usage_close(s->usage);
  for (int i = 0; i < s->n_loops; i++)
    if (s->hub && s->loops[i]) lv_hub_loop_done(s->hub, s->loops[i]);
  for (int i = 0; i < s->n_loops; i++)
    if (s->gateway && s->loops[i]) lv_gateway_loop_done(s->gateway, s->loops[i]);
  if (s->net) lv_net_free(s->net);
  for (int i = 0; i < s->n_loops; i++)
    if (s->loops[i]) lv_loop_free(s->loops[i]);
  lv_router_free(s->router);
  lv_hub_free(s->hub);
  lv_gateway_free(s->gateway);
  lv_realm_free(s->realm);
  s->disk->ops->free(s->disk);
  lv_conf_unref(s->conf);
  lv_conf_unref(s->now);
  free(s);
  return cut;
}

static void answer(lv_loop *loop, void *arg) {
  lv_server *s = arg;
  atomic_fetch_add(&s->answered[loop->index], 1);
}

bool lv_server_beat(lv_server *s) {
  bool all = true;
  for (int i = 0; i < s->n_loops; i++) {
    if (atomic_load(&s->answered[i]) != s->asked[i]) {
      all = false; /* one question at a time */
      continue;
    }
    s->asked[i]++;
    lv_loop_call(s->loops[i], answer, s);
  }
  return all;
}

void lv_server_tick(lv_server *s) {
  lv_master_tick(s->master);
  lv_usage_tick(s->usage);
  lv_metrics_sample(lv_wall_now());
  lv_log_tick();
}
