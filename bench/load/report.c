/* report.c: what a run found, as a table for people and as one JSON object for programs, and the
 * exit code that sums it up. */
#include "load_int.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

typedef struct summary {
  double seconds, sent_per_s, delivered_per_s, server_cpu_s, cpu_per_m, self_cpu_s, self_per_m;
  uint64_t sent, acked, delivered, lost;
  double late_share, bytes_per_conn;
  int64_t late_bound_ns;
  bool late;
  int code;
  const char *verdict;
} summary;

static void judge(const lg_run *run, summary *s) {
  bool qos = run->opt.qos > 0 && run->opt.sub_qos > 0;
  bool once = run->opt.qos == 2 && run->opt.sub_qos == 2 && run->opt.persistent;
  bool wrong = run->unexpected + run->corrupt + run->nacked + run->ledger.reordered > 0 ||
               (run->ledger.duplicated > 0 && (!run->broke || once)) ||
               (qos && s->lost > run->lost_unacked);
  double p99_ms = (double)lg_hist_quantile(&run->latency, 0.99) / 1e6;
  s->code = 0, s->verdict = "pass";
  if (run->refused)
    s->code = 69, s->verdict = "could not connect";
  else if (wrong && !run->opt.allow_loss)
    s->code = 1, s->verdict = "FAIL: the books do not balance";
  else if (s->late)
    s->code = 4, s->verdict = "VOID: the generator was late";
  else if (run->closed_early || (run->server_gone && !run->opt.reconnect))
    s->code = 3, s->verdict = "FAIL: connections broke";
  else if (run->opt.objective_ms > 0 && p99_ms > run->opt.objective_ms)
    s->code = 5, s->verdict = "objective missed";
}

static void sum_up(const lg_run *run, summary *s) {
  s->seconds = (double)(run->end_ns - run->start_ns) / 1e9;
  if (s->seconds <= 0) s->seconds = 1e-9;
  s->sent = run->at_end.sent - run->at_start.sent;
  s->acked = run->at_end.acked - run->at_start.acked;
  s->delivered = run->unique_end - run->unique_start;
  s->sent_per_s = (double)s->sent / s->seconds;
  s->delivered_per_s = (double)s->delivered / s->seconds;
  s->lost = run->lost.prefix + run->lost.middle + run->lost.tail;
  s->server_cpu_s = run->use_end.cpu_s - run->use_start.cpu_s;
  s->self_cpu_s = run->self_end_s - run->self_start_s;
  double million = (double)(run->opt.subs ? s->delivered : s->sent) / 1e6;
  s->cpu_per_m = million > 0 ? s->server_cpu_s / million : 0;
  s->self_per_m = million > 0 ? s->self_cpu_s / million : 0;
  int64_t objective_ns = (int64_t)(run->opt.objective_ms * 1e5); /* 10 % of it */
  s->late_bound_ns = objective_ns > 1000000 ? objective_ns : 1000000;
  if (run->lateness.count)
    s->late_share =
        (double)lg_hist_above(&run->lateness, s->late_bound_ns) / (double)run->lateness.count;
  s->late = s->late_share > 0.001;
  if (run->conn_n)
    s->bytes_per_conn =
        (double)(run->use_connected.rss_bytes - run->use_before.rss_bytes) / (double)run->conn_n;
  judge(run, s);
}

static double quantile_ms(const lg_hist *h, double q) {
  return (double)lg_hist_quantile(h, q) / 1e6;
}

static void table_books(const lg_run *run, const summary *s) {
  (void)printf(
      "books       owed %llu  delivered %llu  lost %llu (prefix %llu, middle %llu, tail %llu)\n"
      "            duplicated %llu  reordered %llu  unexpected %llu  corrupt %llu  foreign %llu\n",
      (ull)run->expected, (ull)run->ledger.unique, (ull)s->lost, (ull)run->lost.prefix,
      (ull)run->lost.middle, (ull)run->lost.tail, (ull)run->ledger.duplicated,
      (ull)run->ledger.reordered, (ull)run->unexpected, (ull)run->corrupt, (ull)run->foreign);
  if (run->opt.qos)
    (void)printf("            unacked %llu  refused acks %llu  acks out of order %llu\n",
                 (ull)(run->now.sent - run->now.acked), (ull)run->nacked,
                 (ull)run->acks_misordered);
  if (run->written_off)
    (void)printf("            %llu written off after %.1f s without progress\n",
                 (ull)run->written_off, run->opt.stall_s);
  if (run->opt.reconnect)
    (void)printf(
        "breaks      %llu, %llu came back, %llu messages sent again; acked and lost %llu, "
        "not acked and lost %llu\n            longest pause: acks %.3f s, deliveries %.3f s\n",
        (ull)run->broke, (ull)run->came_back, (ull)run->resent, (ull)(s->lost - run->lost_unacked),
        (ull)run->lost_unacked, (double)run->ack_gap_ns / 1e9, (double)run->delivery_gap_ns / 1e9);
  if (run->first_error[0])
    (void)printf("broken      %llu connections; first: %s\n",
                 (ull)(run->closed_early + run->refused), run->first_error);
}

static void table_server(const lg_run *run, const summary *s) {
  if (!run->opt.server_count) return;
  if (run->server_gone) {
    (void)printf("server      its process went away\n");
    return;
  }
  (void)printf(
      "server      CPU %.2f s (user %.2f, system %.2f) = %.2f cores, %.3f s per million\n"
      "            RSS %.1f MB before, %.1f MB connected (%.0f B a connection), %.1f MB after\n",
      s->server_cpu_s, run->use_end.user_s - run->use_start.user_s,
      run->use_end.sys_s - run->use_start.sys_s, s->server_cpu_s / s->seconds, s->cpu_per_m,
      (double)run->use_before.rss_bytes / 1e6, (double)run->use_connected.rss_bytes / 1e6,
      s->bytes_per_conn, (double)run->use_end.rss_bytes / 1e6);
}

static void table(const lg_run *run, const summary *s) {
  const lg_opts *o = &run->opt;
  const lg_hist *h = &run->latency;
  (void)printf("%s: %llu -> %llu on %llu topics, %llu idle, QoS %llu, %llu B, MQTT %s, ",
               o->pattern, (ull)o->pubs, (ull)o->subs, (ull)o->topics, (ull)o->idle, (ull)o->qos,
               (ull)o->payload_bytes, o->v5 ? "5.0" : "3.1.1");
  if (o->mode == LG_OPEN)
    (void)printf("open loop, %.0f/s%s\n", o->rate_per_s, o->poisson ? " Poisson" : "");
  else
    (void)printf("closed loop, window %llu\n", (ull)o->window);
  (void)printf("connected   %u in %.2f s; measured %.2f s\n", run->ready,
               (double)(run->connect_end_ns - run->connect_start_ns) / 1e9, s->seconds);
  if (o->pubs) {
    (void)printf("sent        %12.0f /s %12llu\n", s->sent_per_s, (ull)s->sent);
    if (o->qos)
      (void)printf("acked       %12.0f /s %12llu\n", (double)s->acked / s->seconds, (ull)s->acked);
    if (o->subs)
      (void)printf("delivered   %12.0f /s %12llu\n", s->delivered_per_s, (ull)s->delivered);
  }
  if (h->count)
    (void)printf("latency ms  p50 %.3f  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f  mean %.3f\n",
                 quantile_ms(h, 0.5), quantile_ms(h, 0.9), quantile_ms(h, 0.99),
                 quantile_ms(h, 0.999), (double)h->max_ns / 1e6,
                 h->sum_ns / (double)h->count / 1e6);
  table_books(run, s);
  table_server(run, s);
  (void)printf("generator   CPU %.2f s = %.2f cores, %.3f s per million", s->self_cpu_s,
               s->self_cpu_s / s->seconds, s->self_per_m);
  if (run->now.reads)
    (void)printf("; %.1f messages a read", (double)run->now.received / (double)run->now.reads);
  if (run->lateness.count)
    (void)printf(
        "\n            late p99 %.3f ms, max %.3f ms; %.3f %% later than %.1f ms, %llu held up",
        quantile_ms(&run->lateness, 0.99), (double)run->lateness.max_ns / 1e6, 100 * s->late_share,
        (double)s->late_bound_ns / 1e6, (ull)run->backlogged);
  (void)printf("\nverdict     %s (seed %llu)\n", s->verdict, (ull)o->seed);
}

static void json_str(FILE *f, const char *name, const char *v) {
  (void)fprintf(f, "\"%s\":\"", name);
  for (; *v; v++) {
    if (*v == '"' || *v == '\\')
      (void)fprintf(f, "\\%c", *v);
    else if ((unsigned char)*v < 0x20)
      (void)fprintf(f, "\\u%04x", (unsigned)(unsigned char)*v);
    else
      (void)fputc(*v, f);
  }
  (void)fputs("\",", f);
}

static void json_hist(FILE *f, const char *name, const lg_hist *h) {
  (void)fprintf(f,
                "\"%s\":{\"count\":%llu,\"negative\":%llu,\"p50\":%lld,\"p90\":%lld,\"p95\":%lld,"
                "\"p99\":%lld,\"p999\":%lld,\"max\":%lld,\"mean\":%.0f},",
                name, (ull)h->count, (ull)h->negative, (long long)lg_hist_quantile(h, 0.5),
                (long long)lg_hist_quantile(h, 0.9), (long long)lg_hist_quantile(h, 0.95),
                (long long)lg_hist_quantile(h, 0.99), (long long)lg_hist_quantile(h, 0.999),
                (long long)h->max_ns, h->count ? h->sum_ns / (double)h->count : 0);
}

static void json_config(FILE *f, const lg_opts *o) {
  json_str(f, "pattern", o->pattern);
  (void)fprintf(
      f,
      "\"pubs\":%llu,\"subs\":%llu,\"idle\":%llu,\"topics\":%llu,\"qos\":%llu,\"sub_qos\":%llu,"
      "\"payload_bytes\":%llu,\"mqtt\":\"%s\",\"mode\":\"%s\",\"window\":%llu,\"rate_per_s\":%.3f,"
      "\"poisson\":%s,\"seed\":%llu,",
      (ull)o->pubs, (ull)o->subs, (ull)o->idle, (ull)o->topics, (ull)o->qos, (ull)o->sub_qos,
      (ull)o->payload_bytes, o->v5 ? "5" : "3.1.1", o->mode == LG_OPEN ? "open" : "closed",
      (ull)o->window, o->rate_per_s, o->poisson ? "true" : "false", (ull)o->seed);
}

static void json(const lg_run *run, const summary *s, FILE *f) {
  (void)fputc('{', f);
  json_config(f, &run->opt);
  (void)fprintf(f,
                "\"connected\":%u,\"connect_s\":%.6f,\"seconds\":%.6f,\"sent\":%llu,\"acked\":%llu,"
                "\"delivered\":%llu,\"sent_per_s\":%.1f,\"delivered_per_s\":%.1f,",
                run->ready, (double)(run->connect_end_ns - run->connect_start_ns) / 1e9, s->seconds,
                (ull)s->sent, (ull)s->acked, (ull)s->delivered, s->sent_per_s, s->delivered_per_s);
  json_hist(f, "latency_ns", &run->latency);
  json_hist(f, "lateness_ns", &run->lateness);
  (void)fprintf(
      f,
      "\"total_sent\":%llu,\"total_acked\":%llu,\"owed\":%llu,\"unique\":%llu,\"lost\":%llu,"
      "\"lost_prefix\":%llu,\"lost_middle\":%llu,\"lost_tail\":%llu,\"duplicated\":%llu,"
      "\"reordered\":%llu,\"unexpected\":%llu,\"corrupt\":%llu,\"foreign\":%llu,"
      "\"unacked\":%llu,\"nacked\":%llu,\"acks_misordered\":%llu,\"written_off\":%llu,"
      "\"broken\":%llu,\"refused\":%llu,\"breaks\":%llu,\"came_back\":%llu,\"resent\":%llu,"
      "\"lost_acked\":%llu,\"lost_unacked\":%llu,\"ack_gap_ns\":%lld,\"delivery_gap_ns\":%lld,",
      (ull)run->now.sent, (ull)run->now.acked, (ull)run->expected, (ull)run->ledger.unique,
      (ull)s->lost, (ull)run->lost.prefix, (ull)run->lost.middle, (ull)run->lost.tail,
      (ull)run->ledger.duplicated, (ull)run->ledger.reordered, (ull)run->unexpected,
      (ull)run->corrupt, (ull)run->foreign,
      (ull)(run->opt.qos ? run->now.sent - run->now.acked : 0), (ull)run->nacked,
      (ull)run->acks_misordered, (ull)run->written_off, (ull)run->closed_early, (ull)run->refused,
      (ull)run->broke, (ull)run->came_back, (ull)run->resent, (ull)(s->lost - run->lost_unacked),
      (ull)run->lost_unacked, (long long)run->ack_gap_ns, (long long)run->delivery_gap_ns);
  if (run->opt.server_count && !run->server_gone)
    (void)fprintf(
        f,
        "\"server\":{\"cpu_s\":%.4f,\"user_s\":%.4f,\"sys_s\":%.4f,\"cpu_s_per_million\":%.5f,"
        "\"rss_before\":%lld,\"rss_connected\":%lld,\"rss_end\":%lld,\"pss_before\":%lld,"
        "\"pss_connected\":%lld,\"pss_end\":%lld,\"rss_per_conn\":%.1f,\"switches\":%lld},",
        s->server_cpu_s, run->use_end.user_s - run->use_start.user_s,
        run->use_end.sys_s - run->use_start.sys_s, s->cpu_per_m,
        (long long)run->use_before.rss_bytes, (long long)run->use_connected.rss_bytes,
        (long long)run->use_end.rss_bytes, (long long)run->use_before.pss_bytes,
        (long long)run->use_connected.pss_bytes, (long long)run->use_end.pss_bytes,
        s->bytes_per_conn, (long long)(run->use_end.ctx_switches - run->use_start.ctx_switches));
  (void)fprintf(
      f,
      "\"generator\":{\"cpu_s\":%.4f,\"cpu_s_per_million\":%.5f,\"reads\":%llu,\"writes\":%llu},",
      s->self_cpu_s, s->self_per_m, (ull)(run->at_end.reads - run->at_start.reads),
      (ull)(run->at_end.writes - run->at_start.writes));
  (void)fprintf(f, "\"late_share\":%.6f,\"held_up\":%llu,\"void\":%s,", s->late_share,
                (ull)run->backlogged, s->late ? "true" : "false");
  json_str(f, "first_error", run->first_error);
  json_str(f, "verdict", s->verdict);
  (void)fprintf(f, "\"code\":%d}\n", s->code);
}

static int write_json(const lg_run *run, const summary *s) {
  const char *path = run->opt.json;
  FILE *f = strcmp(path, "-") ? fopen(path, "we") : stdout;
  if (!f) {
    char why[80];
    (void)fprintf(stderr, "lavva-load: %s: %s\n", path, strerror_r(errno, why, sizeof why));
    return -1;
  }
  json(run, s, f);
  return f == stdout ? fflush(f) : fclose(f);
}

int lg_report(lg_run *run) {
  summary s = {0};
  sum_up(run, &s);
  bool to_stdout = run->opt.json && !strcmp(run->opt.json, "-");
  if (run->refused)
    (void)fprintf(stderr, "lavva-load: %s:%s: %s\n", run->opt.host, run->opt.port,
                  run->first_error);
  else if (!run->opt.quiet && !to_stdout)
    table(run, &s);
  if (run->opt.json && write_json(run, &s)) return 70;
  return s.code;
}
