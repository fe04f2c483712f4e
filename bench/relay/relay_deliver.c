/* relay_deliver.c: topics, and what a turn brought for each: encoded once per form, sent to every
 * subscriber of that form with its own packet ids patched in. The faults are made here. */
#include "relay_int.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint32_t form_of(uint8_t qos, bool v5) {
  return (uint32_t)(qos ? 2 : 0) + (v5 ? 1u : 0u);
}

static uint32_t hash_of(const uint8_t *p, uint32_t n) {
  uint32_t h = 2166136261u;
  for (uint32_t i = 0; i < n; i++) h = (h ^ p[i]) * 16777619u;
  return h ^ h >> 15;
}

static void table_put(rl_topic **table, uint32_t cap, rl_topic *topic) {
  uint32_t i = topic->hash & (cap - 1);
  while (table[i]) i = (i + 1) & (cap - 1);
  table[i] = topic;
}

static void table_double(rl_relay *rl) {
  uint32_t cap = rl->table_cap ? rl->table_cap * 2 : 64;
  rl_topic **table = calloc(cap, sizeof *table);
  if (!table) abort();
  for (uint32_t i = 0; i < rl->table_cap; i++)
    if (rl->table[i]) table_put(table, cap, rl->table[i]);
  free(rl->table);
  rl->table = table;
  rl->table_cap = cap;
}

rl_topic *rl_topic_get(rl_relay *rl, const uint8_t *name, uint32_t n) {
  uint32_t hash = hash_of(name, n);
  if (rl->topic_n * 2 >= rl->table_cap) table_double(rl);
  for (uint32_t i = hash & (rl->table_cap - 1); rl->table[i]; i = (i + 1) & (rl->table_cap - 1)) {
    rl_topic *t = rl->table[i];
    if (t->hash == hash && t->name_n == n && memcmp(t->name, name, n) == 0) return t;
  }
  rl_topic *t = calloc(1, sizeof *t);
  if (!t || !(t->name = malloc(n + 1))) abort();
  memcpy(t->name, name, n);
  t->name_n = n;
  t->hash = hash;
  table_put(rl->table, rl->table_cap, t);
  rl->topic_n++;
  return t;
}

void rl_subscribe(rl_relay *rl, rl_topic *topic, rl_conn *conn, uint8_t qos) {
  (void)rl;
  uint32_t f = form_of(qos, conn->v5), n = topic->sub_n[f];
  topic->subs[f] = rl_grow(topic->subs[f], &topic->sub_cap[f], n + 1, sizeof *topic->subs[f]);
  topic->subs[f][topic->sub_n[f]++] = conn;
  conn->subs++;
}

void rl_unsubscribe_all(rl_relay *rl, rl_conn *conn) {
  for (uint32_t i = 0; conn->subs && i < rl->table_cap; i++)
    for (uint32_t f = 0; rl->table[i] && f < RL_FORMS; f++) {
      rl_topic *t = rl->table[i];
      for (uint32_t k = t->sub_n[f]; k-- > 0;)
        if (t->subs[f][k] == conn) t->subs[f][k] = t->subs[f][--t->sub_n[f]], conn->subs--;
    }
}

static void encode(rl_topic *t, uint32_t form, const uint8_t *payload, uint32_t payload_n) {
  rl_chunk *c = &t->turn[form];
  uint32_t rest = 2 + t->name_n + (form & 2) + (form & 1) + payload_n;
  rl_bytes_room(&c->bytes, rest + 5);
  uint8_t *p = c->bytes.p + c->bytes.n;
  *p++ = (uint8_t)(LG_PUBLISH << 4 | (form & 2));
  for (uint32_t v = rest;; v >>= 7) {
    *p++ = (uint8_t)(v > 127 ? v | 0x80 : v);
    if (v <= 127) break;
  }
  *p++ = (uint8_t)(t->name_n >> 8), *p++ = (uint8_t)t->name_n;
  memcpy(p, t->name, t->name_n);
  p += t->name_n;
  if (form & 2) {
    c->pid_at = rl_grow(c->pid_at, &c->cap, c->count + 1, sizeof *c->pid_at);
    c->pid_at[c->count] = (uint32_t)(p - c->bytes.p);
    p += 2;
  }
  if (form & 1) *p++ = 0;
  memcpy(p, payload, payload_n);
  c->bytes.n = (size_t)(p - c->bytes.p) + payload_n;
  c->count++;
}

static void enqueue(rl_relay *rl, rl_topic *t, const uint8_t *payload, uint32_t payload_n) {
  for (uint32_t f = 0; f < RL_FORMS; f++)
    if (t->sub_n[f]) encode(t, f, payload, payload_n);
  if (t->touched) return;
  t->touched = true;
  rl->touched = rl_grow(rl->touched, &rl->touched_cap, rl->touched_n + 1, sizeof(rl_topic *));
  rl->touched[rl->touched_n++] = t;
}

void rl_publish(rl_relay *rl, const lg_pub_in *pub) {
  const rl_faults *fa = &rl->faults;
  rl_topic *t = rl_topic_get(rl, pub->topic, pub->topic_n);
  rl->in++;
  rl_store_add(&rl->store, pub);
  if (fa->drop && rl->in % fa->drop == 0) {
    rl->dropped++;
    return;
  }
  if (fa->swap && rl->in % fa->swap == 0 && !t->holding) {
    t->held.n = 0;
    rl_bytes_add(&t->held, pub->payload, pub->payload_n);
    t->holding = true;
    return;
  }
  enqueue(rl, t, pub->payload, pub->payload_n);
  if (fa->dup && rl->in % fa->dup == 0) {
    rl->doubled++;
    enqueue(rl, t, pub->payload, pub->payload_n);
  }
  if (!t->holding) return;
  t->holding = false;
  rl->swapped++;
  enqueue(rl, t, t->held.p, (uint32_t)t->held.n);
}

void rl_held_flush(rl_relay *rl) {
  for (uint32_t i = 0; rl->faults.swap && i < rl->table_cap; i++) {
    rl_topic *t = rl->table[i];
    if (!t || !t->holding) continue;
    t->holding = false;
    enqueue(rl, t, t->held.p, (uint32_t)t->held.n);
  }
}

static void deliver(rl_relay *rl, rl_topic *t, rl_chunk turn[RL_FORMS]) {
  for (uint32_t f = 0; f < RL_FORMS; f++) {
    rl_chunk *c = &turn[f];
    if (c->count == 0) continue;
    for (uint32_t k = 0; k < t->sub_n[f]; k++) {
      rl_conn *conn = t->subs[f][k];
      if (conn->dead) continue;
      for (uint32_t i = 0; (f & 2) && i < c->count; i++) {
        if (++conn->pid == 0) conn->pid = 1;
        c->bytes.p[c->pid_at[i]] = (uint8_t)(conn->pid >> 8);
        c->bytes.p[c->pid_at[i] + 1] = (uint8_t)conn->pid;
      }
      rl_conn_send(rl, conn, c->bytes.p, c->bytes.n);
      rl->out += c->count;
    }
    c->bytes.n = c->count = 0;
  }
}

static void delay(rl_relay *rl, rl_topic *t, int64_t now_ns) {
  if (rl->queue_n == rl->queue_cap) {
    uint32_t cap = rl->queue_cap ? rl->queue_cap * 2 : 256;
    rl_delayed *grown = calloc(cap, sizeof *grown);
    if (!grown) abort();
    for (uint32_t i = 0; i < rl->queue_n; i++)
      grown[i] = rl->queue[(rl->queue_head + i) & (rl->queue_cap - 1)];
    free(rl->queue);
    rl->queue = grown, rl->queue_head = 0, rl->queue_cap = cap;
  }
  rl_delayed *d = &rl->queue[(rl->queue_head + rl->queue_n++) & (rl->queue_cap - 1)];
  *d = (rl_delayed){.due_ns = now_ns + rl->faults.delay_ns, .topic = t};
  memcpy(d->turn, t->turn, sizeof d->turn);
  memset(t->turn, 0, sizeof t->turn);
}

int64_t rl_delayed_run(rl_relay *rl, int64_t now_ns) {
  while (rl->queue_n) {
    rl_delayed *d = &rl->queue[rl->queue_head];
    if (d->due_ns > now_ns) return d->due_ns;
    deliver(rl, d->topic, d->turn);
    for (uint32_t f = 0; f < RL_FORMS; f++) free(d->turn[f].bytes.p), free(d->turn[f].pid_at);
    rl->queue_head = (rl->queue_head + 1) & (rl->queue_cap - 1);
    rl->queue_n--;
  }
  return INT64_MAX;
}

void rl_turn_end(rl_relay *rl) {
  rl_store_commit(&rl->store);
  int64_t now_ns = rl->faults.delay_ns ? rl_now_ns() : 0;
  for (uint32_t i = 0; i < rl->touched_n; i++) {
    rl_topic *t = rl->touched[i];
    t->touched = false;
    if (rl->faults.delay_ns)
      delay(rl, t, now_ns);
    else
      deliver(rl, t, t->turn);
  }
  rl->touched_n = 0;
  for (uint32_t i = 0; i < rl->dirty_n; i++) {
    rl_conn *conn = rl->dirty[i];
    conn->dirty = false;
    if (!conn->dead) rl_conn_send(rl, conn, conn->ack.p, conn->ack.n);
    conn->ack.n = 0;
  }
  rl->dirty_n = 0;
}
