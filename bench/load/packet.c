/* packet.c: MQTT framing for clients (see packet.h). Sections cited are of OASIS MQTT 5.0. */
#include "packet.h"
#include <assert.h>
#include <string.h>

static uint8_t *put_u16(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
  return p + 2;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v) {
  return put_u16(put_u16(p, v >> 16), v & 0xffff);
}

static uint8_t *put_varint(uint8_t *p, uint32_t v) { /* §1.5.5 */
  assert(v < 1u << 28);
  for (; v >= 128; v >>= 7) *p++ = (uint8_t)(v | 0x80);
  *p++ = (uint8_t)v;
  return p;
}

static uint8_t *put_str(uint8_t *p, const char *s, size_t n) {
  p = put_u16(p, (uint32_t)n);
  memcpy(p, s, n);
  return p + n;
}

static int get_varint(const uint8_t *p, size_t n, uint32_t *ret_v) {
  uint32_t v = 0;
  for (uint32_t i = 0; i < 4; i++) {
    if (i == n) return 0;
    v |= (uint32_t)(p[i] & 0x7f) << (7 * i);
    if (!(p[i] & 0x80)) {
      *ret_v = v;
      return (int)i + 1;
    }
  }
  return -1;
}

static uint16_t get_u16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

size_t lg_connect_bytes_max(const lg_connect *c) {
  size_t n = 64 + strlen(c->client_id);
  if (c->user) n += strlen(c->user);
  if (c->password) n += strlen(c->password);
  return n;
}

size_t lg_connect_encode(uint8_t *buf, const lg_connect *c) { /* §3.1 */
  size_t id_n = strlen(c->client_id), user_n = c->user ? strlen(c->user) : 0;
  size_t pass_n = c->password ? strlen(c->password) : 0;
  uint8_t props[16], *q = props;
  if (c->receive_max) *q++ = 0x21, q = put_u16(q, c->receive_max);
  if (c->expiry_s) *q++ = 0x11, q = put_u32(q, c->expiry_s);
  size_t props_n = (size_t)(q - props);
  size_t rest = 10 + 2 + id_n + (c->v5 ? 1 + props_n : 0);
  if (c->user) rest += 2 + user_n;
  if (c->password) rest += 2 + pass_n;
  uint8_t *p = buf;
  *p++ = LG_CONNECT << 4;
  p = put_varint(p, (uint32_t)rest);
  p = put_str(p, "MQTT", 4);
  *p++ = c->v5 ? 5 : 4;
  *p++ = (uint8_t)((c->clean ? 0x02 : 0) | (c->user ? 0x80 : 0) | (c->password ? 0x40 : 0));
  p = put_u16(p, c->keep_alive_s);
  if (c->v5) {
    *p++ = (uint8_t)props_n;
    memcpy(p, props, props_n);
    p += props_n;
  }
  p = put_str(p, c->client_id, id_n);
  if (c->user) p = put_str(p, c->user, user_n);
  if (c->password) p = put_str(p, c->password, pass_n);
  return (size_t)(p - buf);
}

size_t lg_subscribe_bytes_max(const char *const *filters, uint32_t count) {
  size_t n = 16;
  for (uint32_t i = 0; i < count; i++) n += 3 + strlen(filters[i]);
  return n;
}

size_t lg_subscribe_encode(uint8_t *buf, uint16_t pid, bool v5, uint8_t qos,
                           const char *const *filters, uint32_t count) { /* §3.8 */
  size_t rest = 2 + (v5 ? 1 : 0);
  for (uint32_t i = 0; i < count; i++) rest += 3 + strlen(filters[i]);
  uint8_t *p = buf;
  *p++ = LG_SUBSCRIBE << 4 | 0x02;
  p = put_varint(p, (uint32_t)rest);
  p = put_u16(p, pid);
  if (v5) *p++ = 0;
  for (uint32_t i = 0; i < count; i++) {
    p = put_str(p, filters[i], strlen(filters[i]));
    *p++ = qos;
  }
  return (size_t)(p - buf);
}

size_t lg_publish_bytes_max(uint32_t topic_n, uint32_t payload_n) {
  return 16 + (size_t)topic_n + payload_n;
}

size_t lg_publish_encode(uint8_t *buf, const lg_pub *pub) { /* §3.3 */
  uint32_t rest = 2u + pub->topic_n + (pub->qos ? 2u : 0u) + (pub->v5 ? 1u : 0u) + pub->payload_n;
  uint8_t *p = buf;
  *p++ = (uint8_t)(LG_PUBLISH << 4 | (pub->dup ? 8 : 0) | pub->qos << 1);
  p = put_varint(p, rest);
  p = put_str(p, pub->topic, pub->topic_n);
  if (pub->qos) p = put_u16(p, pub->pid);
  if (pub->v5) *p++ = 0;
  uint32_t zero = 0;
  memcpy(p, &pub->stamp.run, 4);
  memcpy(p + 4, &pub->stamp.stream, 4);
  memcpy(p + 8, &pub->stamp.seq, 4);
  memcpy(p + 12, &zero, 4);
  memcpy(p + 16, &pub->stamp.intended_ns, 8);
  memcpy(p + LG_STAMP_BYTES, pub->pattern + LG_STAMP_BYTES, pub->payload_n - LG_STAMP_BYTES);
  return (size_t)(p - buf) + pub->payload_n;
}

size_t lg_ack_encode(uint8_t *buf, uint8_t type, uint16_t pid) {
  buf[0] = (uint8_t)(type << 4 | (type == LG_PUBREL ? 0x02 : 0));
  buf[1] = 2;
  put_u16(buf + 2, pid);
  return 4;
}

int64_t lg_frame_cut(const uint8_t *p, size_t n, lg_frame *ret_frame) {
  if (n < 2) return 0;
  uint32_t rest;
  int used = get_varint(p + 1, n - 1, &rest);
  if (used <= 0) return used;
  size_t total = 1 + (size_t)used + rest;
  if (n < total) return 0;
  *ret_frame = (lg_frame){(uint8_t)(p[0] >> 4), p[0] & 0x0f, p + 1 + used, rest};
  return (int64_t)total;
}

int lg_publish_decode(const lg_frame *f, bool v5, lg_pub_in *ret_pub) {
  const uint8_t *p = f->body, *end = p + f->n;
  uint8_t qos = f->flags >> 1 & 3;
  if (f->n < 2) return -1;
  uint32_t topic_n = get_u16(p);
  p += 2;
  if ((size_t)(end - p) < topic_n + (qos ? 2u : 0u)) return -1;
  const uint8_t *topic = p;
  p += topic_n;
  uint16_t pid = 0;
  if (qos) pid = get_u16(p), p += 2;
  if (v5) {
    uint32_t props = 0;
    int used = get_varint(p, (size_t)(end - p), &props);
    if (used <= 0 || (size_t)(end - p) < (size_t)used + props) return -1;
    p += (uint32_t)used + props;
  }
  *ret_pub =
      (lg_pub_in){topic, p, topic_n, (uint32_t)(end - p), pid, qos, (bool)(f->flags >> 3 & 1)};
  return 0;
}

/* Bytes of the value of a CONNACK property, or -1 for one that does not belong there (§3.2.2.3). */
static int64_t connack_prop_bytes(uint8_t id, const uint8_t *p, size_t n) {
  switch (id) {
  case 0x24:
  case 0x25:
  case 0x28:
  case 0x29:
  case 0x2A: return 1; // clang-format off
  case 0x13: case 0x21: case 0x22: return 2;
  case 0x11: case 0x27: return 4; // clang-format on
  case 0x12:
  case 0x15:
  case 0x16:
  case 0x1A:
  case 0x1C:
  case 0x1F: return n < 2 ? -1 : 2 + get_u16(p);
  case 0x26: {
    if (n < 2) return -1;
    size_t name = 2u + get_u16(p);
    return n < name + 2 ? -1 : (int64_t)(name + 2 + get_u16(p + name));
  }
  default: return -1;
  }
}

int lg_connack_decode(const lg_frame *f, bool v5, lg_connack *ret_ack) {
  if (f->n < 2) return -1;
  lg_connack ack = {.session = f->body[0] & 1, .code = f->body[1], .receive_max = 65535};
  const uint8_t *p = f->body + 2, *end = f->body + f->n;
  if (v5 && p < end) {
    uint32_t props;
    int used = get_varint(p, (size_t)(end - p), &props);
    if (used <= 0 || (size_t)(end - p) < (size_t)used + props) return -1;
    p += used;
    end = p + props;
    while (p < end) {
      uint8_t id = *p++;
      int64_t n = connack_prop_bytes(id, p, (size_t)(end - p));
      if (n < 0 || n > end - p) return -1;
      if (id == 0x21) ack.receive_max = get_u16(p);
      p += n;
    }
  }
  *ret_ack = ack;
  return 0;
}

int lg_ack_decode(const lg_frame *f, uint16_t *ret_pid, uint8_t *ret_reason) {
  if (f->n < 2) return -1;
  *ret_pid = get_u16(f->body);
  *ret_reason = f->n > 2 ? f->body[2] : 0;
  return 0;
}

void lg_stamp_read(const uint8_t *payload, lg_stamp *ret_stamp) {
  memcpy(&ret_stamp->run, payload, 4);
  memcpy(&ret_stamp->stream, payload + 4, 4);
  memcpy(&ret_stamp->seq, payload + 8, 4);
  memcpy(&ret_stamp->intended_ns, payload + 16, 8);
}
