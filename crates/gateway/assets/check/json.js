// Strict JSON: one reading for every text, or none; and the canonical form (RFC 8785).
//
// An object is a Map, so that a member may have any name without meaning anything to this
// program. Only whole numbers are read: Clawgate's documents hold no others.
"use strict";

globalThis.clawcheck = Object.create(null);

{
  // Deepest nesting that is read.
  const MAX_DEPTH = 64;

  // So many characters are read in one go, before the page may do something else.
  const STRIDE = 1 << 18;

  const PLAIN = /[^"\\\u0000-\u001f]*/y;
  const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
  const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
  const LITERALS = [["true", true], ["false", false], ["null", null]];

  /** Why a text was not read. */
  class NotJson extends Error {}

  /** Reads a text from its beginning to its end, without recursion: it may be a hostile one. */
  class Reader {
    constructor(text, fractions) {
      this.text = text;
      this.at = 0;
      this.fractions = fractions;
      // The arrays and objects around the place that is read, the innermost last.
      this.around = [];
      this.wantsValue = true;
      this.done = false;
    }

    /** Reads on to about this place. */
    readTo(end) {
      while (!this.done && this.at <= end) {
        this.blank();
        if (this.wantsValue) this.value();
        else this.afterValue();
      }
    }

    refuse(why) {
      throw new NotJson(`${why} at character ${this.at}`);
    }

    blank() {
      for (;;) {
        const c = this.text.charCodeAt(this.at);
        if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
        this.at += 1;
      }
    }

    /** Goes past this character if it is the next. */
    takes(character) {
      if (this.text[this.at] !== character) return false;
      this.at += 1;
      return true;
    }

    value() {
      if (this.takes("[")) {
        if (this.around.length >= MAX_DEPTH) this.refuse("nested too deep");
        this.around.push({ holds: [], end: "]" });
        this.blank();
        if (this.takes("]")) this.close();
      } else if (this.takes("{")) {
        const tooDeep = this.around.length >= MAX_DEPTH;
        this.around.push({ holds: new Map(), end: "}", name: "" });
        this.blank();
        if (this.takes("}")) this.close();
        else if (tooDeep) this.refuse("nested too deep");
        else this.name();
      } else {
        this.put(this.scalar());
      }
    }

    afterValue() {
      const inner = this.around.at(-1);
      if (inner === undefined) {
        if (this.at < this.text.length) this.refuse("something after the end");
        this.done = true;
      } else if (this.takes(",")) {
        this.blank();
        if (inner.end === "}") this.name();
        this.wantsValue = true;
      } else if (this.takes(inner.end)) {
        this.close();
      } else {
        this.refuse("neither a comma nor an end");
      }
    }

    close() {
      this.put(this.around.pop().holds);
    }

    put(value) {
      const inner = this.around.at(-1);
      if (inner === undefined) this.result = value;
      else if (inner.end === "]") inner.holds.push(value);
      else inner.holds.set(inner.name, value);
      this.wantsValue = false;
    }

    name() {
      const inner = this.around.at(-1);
      if (!this.takes('"')) this.refuse("no name");
      inner.name = this.string();
      if (inner.holds.has(inner.name)) this.refuse("a name that was there before");
      this.blank();
      if (!this.takes(":")) this.refuse("no colon");
    }

    scalar() {
      if (this.takes('"')) return this.string();
      for (const [word, value] of LITERALS) {
        if (this.text.startsWith(word, this.at)) {
          this.at += word.length;
          return value;
        }
      }
      NUMBER.lastIndex = this.at;
      const found = NUMBER.exec(this.text);
      if (found === null) this.refuse("no value");
      const number = Number(found[0]);
      const whole = found[1] === undefined && found[2] === undefined
        && Number.isSafeInteger(number) && !Object.is(number, -0);
      if (!(this.fractions ? Number.isFinite(number) : whole)) this.refuse("not a safe integer");
      this.at += found[0].length;
      return number;
    }

    /** The rest of a string whose first quotation mark was read. */
    string() {
      let read = "";
      for (;;) {
        PLAIN.lastIndex = this.at;
        const plain = PLAIN.exec(this.text)[0];
        read += plain;
        this.at += plain.length;
        if (this.takes('"')) return read;
        if (!this.takes("\\")) this.refuse("a string that is cut or holds a control character");
        read += this.escape();
      }
    }

    escape() {
      const kind = this.text[this.at];
      this.at += 1;
      if (kind !== "u") return Object.hasOwn(ESCAPES, kind) ? ESCAPES[kind] : this.refuse("no escape");
      const unit = this.unit();
      if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit);
      const paired = unit < 0xdc00 && this.takes("\\") && this.takes("u");
      const second = paired ? this.unit() : 0;
      if (second < 0xdc00 || second > 0xdfff) this.refuse("half a character");
      return String.fromCharCode(unit, second);
    }

    unit() {
      const digits = this.text.slice(this.at, this.at + 4);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.refuse("no escape");
      this.at += 4;
      return Number.parseInt(digits, 16);
    }
  }

  /** The text of bytes that must be UTF-8. */
  const fromUtf8 = (bytes) => {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new NotJson("not UTF-8");
    }
  };

  /** Reads a small document; `fractions` admits any finite number. */
  const parse = (bytes, { fractions = false } = {}) => {
    const reader = new Reader(fromUtf8(bytes), fractions);
    reader.readTo(reader.text.length);
    return reader.result;
  };

  /** Reads a large document, and lets the page live: `pause` is awaited between strides. */
  const parseLarge = async (bytes, pause) => {
    const reader = new Reader(fromUtf8(bytes), false);
    const { length } = reader.text;
    for (let end = STRIDE; !reader.done; end += STRIDE) {
      reader.readTo(Math.min(end, length));
      await pause(reader.at / Math.max(length, 1));
    }
    return reader.result;
  };

  /** The canonical form of what was read. Names are sorted by UTF-16 code units, as `sort` does. */
  const canonical = (value) => {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (!(value instanceof Map)) return JSON.stringify(value);
    const members = [...value.keys()].sort().map(
      (name) => `${JSON.stringify(name)}:${canonical(value.get(name))}`,
    );
    return `{${members.join(",")}}`;
  };

  /** The same for what may be large: the page lives between the elements of its lists. */
  const canonicalLarge = async (value, pause) => {
    if (!(value instanceof Map) && !Array.isArray(value)) return canonical(value);
    const texts = [];
    if (Array.isArray(value)) {
      for (const [n, element] of value.entries()) {
        texts.push(canonical(element));
        await pause(n / value.length);
      }
      return `[${texts.join(",")}]`;
    }
    for (const name of [...value.keys()].sort()) {
      texts.push(`${JSON.stringify(name)}:${await canonicalLarge(value.get(name), pause)}`);
    }
    return `{${texts.join(",")}}`;
  };

  const toUtf8 = (text) => new TextEncoder().encode(text);

  /** Base64url without padding. */
  const toBase64 = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  /** The bytes of base64url without padding, or null: there is one way to write each value. */
  const fromBase64 = (text) => {
    if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    const bytes = Uint8Array.from(plain, (c) => c.charCodeAt(0));
    // Bits that no byte needs must be zero. Only the last characters can differ.
    const rest = bytes.length % 3;
    const end = toBase64(bytes.subarray(bytes.length - rest));
    return rest === 0 || text.endsWith(end) ? bytes : null;
  };

  Object.assign(clawcheck, {
    NotJson, parse, parseLarge, canonical, canonicalLarge, toUtf8, toBase64, fromBase64,
  });
}
