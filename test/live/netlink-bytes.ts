/** Messages of rtnetlink, in the kernel's format. */

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Returns a `struct nlattr` with its bytes, padded. */
export function attribute(type: number, bytes: Uint8Array): Uint8Array {
  const head = new Uint8Array(Uint16Array.of(4 + bytes.length, type).buffer);
  return Buffer.concat([head, bytes, new Uint8Array(-bytes.length & 3)]);
}

const NLA_F_NESTED = 0x8000;

export function nested(type: number, ...attributes: readonly Uint8Array[]): Uint8Array {
  return attribute(type | NLA_F_NESTED, Buffer.concat(attributes));
}

/** `struct nlmsghdr` with a `struct ifinfomsg` (RTM_NEWLINK, 16) or `struct tcmsg`, and attributes. */
export function message(
  type: number,
  ifindex: number,
  handle: number,
  ...attributes: readonly Uint8Array[]
): Uint8Array {
  const body = new Uint8Array(type === 16 ? 16 : 20);
  const view = new DataView(body.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, handle, true);
  const whole = Buffer.concat([new Uint8Array(16), body, ...attributes]);
  whole.writeUInt32LE(whole.length, 0);
  whole.writeUInt16LE(type, 4);
  return whole;
}
