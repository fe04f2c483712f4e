/* Messages of the hub in msgpack, which tells bytes from text and keeps 64-bit integers exact: bin
 * becomes a Uint8Array, an integer that a double cannot hold a BigInt. And values as text again. */
const DEPTH = 160;

class Reader {
  constructor(buffer) {
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.at = 0;
    this.text = new TextDecoder();
  }

  take(n) {
    this.at += n;
    if (this.at > this.bytes.length) throw new Error("msgpack: cut off");
    return this.at - n;
  }

  uint(n) {
    const at = this.take(n);
    if (n === 1) return this.view.getUint8(at);
    if (n === 2) return this.view.getUint16(at);
    return n === 4 ? this.view.getUint32(at) : safe(this.view.getBigUint64(at));
  }

  int(n) {
    const at = this.take(n);
    if (n === 1) return this.view.getInt8(at);
    if (n === 2) return this.view.getInt16(at);
    return n === 4 ? this.view.getInt32(at) : safe(this.view.getBigInt64(at));
  }

  str(n) {
    const at = this.take(n);
    return this.text.decode(this.bytes.subarray(at, at + n));
  }

  bin(n) {
    const at = this.take(n);
    return this.bytes.slice(at, at + n);
  }

  array(n, depth) {
    const out = [];
    for (let i = 0; i < n; i++) out.push(this.value(depth + 1));
    return out;
  }

  map(n, depth) {
    const out = Object.create(null);
    for (let i = 0; i < n; i++) {
      const k = this.value(depth + 1);
      out[String(k)] = this.value(depth + 1);
    }
    return out;
  }

  value(depth = 0) {
    if (depth > DEPTH) throw new Error("msgpack: nested too deep");
    const b = this.uint(1);
    if (b < 0x80) return b;
    if (b >= 0xe0) return b - 256;
    if (b < 0x90) return this.map(b & 15, depth);
    if (b < 0xa0) return this.array(b & 15, depth);
    if (b < 0xc0) return this.str(b & 31);
    switch (b) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: case 0xc5: case 0xc6: return this.bin(this.uint(1 << (b - 0xc4)));
    case 0xca: return this.view.getFloat32(this.take(4));
    case 0xcb: return this.view.getFloat64(this.take(8));
    case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.uint(1 << (b - 0xcc));
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: return this.int(1 << (b - 0xd0));
    case 0xd9: case 0xda: case 0xdb: return this.str(this.uint(1 << (b - 0xd9)));
    case 0xdc: case 0xdd: return this.array(this.uint(2 << (b - 0xdc)), depth);
    case 0xde: case 0xdf: return this.map(this.uint(2 << (b - 0xde)), depth);
    default: throw new Error(`msgpack: byte ${b.toString(16)}`);
    }
  }
}

function safe(big) {
  const n = Number(big);
  return Number.isSafeInteger(n) ? n : big;
}

export const decode = buffer => new Reader(buffer).value();

export function hex(bytes, most = 64) {
  const shown = [...bytes.subarray(0, most)].map(b => b.toString(16).padStart(2, "0")).join(" ");
  const n = bytes.length;
  return `${shown}${n > most ? " …" : ""} (${n} ${n === 1 ? "byte" : "bytes"})`;
}

/* JSON text; with `indent` (2 spaces) one member a line. */
export function json(v, indent = "", depth = 0) {
  if (v === null || typeof v === "boolean" || typeof v === "number") return String(v);
  if (typeof v === "bigint") return String(v);
  if (typeof v === "string") return JSON.stringify(v);
  if (v instanceof Uint8Array) return JSON.stringify(hex(v));
  const inner = indent && `\n${indent.repeat(depth + 1)}`, end = indent && `\n${indent.repeat(depth)}`;
  if (Array.isArray(v)) {
    if (!v.length) return "[]";
    return `[${inner}${v.map(x => json(x, indent, depth + 1)).join(`,${inner}`)}${end}]`;
  }
  const keys = Object.keys(v), colon = indent ? ": " : ":";
  if (!keys.length) return "{}";
  return `{${inner}${keys.map(k => JSON.stringify(k) + colon + json(v[k], indent, depth + 1)).join(`,${inner}`)}${end}}`;
}
