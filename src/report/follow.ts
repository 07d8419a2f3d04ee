/** Follows pointers into arenas, and into the kernel's memory if that can be read. */
import type { Btf } from "../btf/btf.ts";
import { declaration } from "../btf/declare.ts";
import { type PointerAt, pointersIn } from "../btf/pointers.ts";
import type { BpfState } from "../state.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { ArenaSpace } from "./arena-space.ts";
import { type TypeRef, withFallback } from "./typed.ts";

/** An object that a pointer reaches. */
export interface Target {
  readonly address: bigint;
  /** Arena that contains the object; undefined: the kernel's memory. */
  readonly arena: ArenaSpace | undefined;
  /** Offset in the arena, in bytes; 0 in the kernel's memory. */
  readonly offset: number;
  /** C type: "struct node". */
  readonly typeText: string;
  readonly type: TypeRef;
  /** Number of pointers from the value to the object, at least 1. */
  readonly depth: number;
  readonly bytes: Uint8Array;
}

export interface Followed {
  /** Each object once, followed by the objects that it points to, so that a list is in order. */
  readonly targets: readonly Target[];
  /** Whether a limit left out objects. */
  readonly cut: boolean;
}

export interface FollowLimits {
  /** Limit on the number of pointers from the value. */
  readonly depth: number;
  /** Follow only pointers into this arena. */
  readonly only?: ArenaSpace;
}

/** Limit on objects per value. */
const MAX_TARGETS = 1000;
const MAX_TARGET_BYTES = 65_536;
const MAX_DEPTH = 10_000;

interface Node {
  readonly target: Target;
  readonly children: Node[];
}

/** Follows pointers breadth first, so that each object is found once, at its shortest distance. */
export class Follower {
  readonly #state: BpfState;
  readonly #arenas: readonly ArenaSpace[];
  readonly #limits: FollowLimits;
  #kernel: Btf | undefined | null = null;

  constructor(state: BpfState, arenas: readonly ArenaSpace[], limits: FollowLimits) {
    this.#state = state;
    this.#arenas = arenas;
    this.#limits = limits;
  }

  follow(type: TypeRef, bytes: Uint8Array): Followed {
    const roots: Node[] = [];
    const seen = new Set<string>();
    let level: { type: TypeRef; bytes: Uint8Array; into: Node[] }[] = [{ type, bytes, into: roots }];
    let count = 0;
    let cut = false;
    const depthLimit = Math.min(this.#limits.depth, MAX_DEPTH);
    for (let depth = 1; depth <= depthLimit && level.length > 0; depth++) {
      const next: typeof level = [];
      for (const from of level) {
        const { btf, id } = from.type;
        for (const pointer of withFallback([], () => pointersIn(btf, id, from.bytes))) {
          const target = withFallback(undefined, () => this.#target(btf, pointer, depth));
          if (target === undefined) continue;
          const identity = `${target.address}:${target.typeText}`;
          if (seen.has(identity)) continue;
          cut ||= count === MAX_TARGETS;
          if (cut) break;
          seen.add(identity);
          count++;
          const node = { target, children: [] };
          from.into.push(node);
          next.push({ type: target.type, bytes: target.bytes, into: node.children });
        }
      }
      level = next;
    }
    return { targets: inOrder(roots), cut };
  }

  #target(btf: Btf, { address, targetId, tags }: PointerAt, depth: number): Target | undefined {
    if (tags.includes("percpu_kptr") || tags.includes("percpu") || tags.includes("user")) return undefined;
    const isTagged = tags.some((tag) => tag === "arena" || tag === "address_space(1)");
    for (const arena of this.#limits.only === undefined ? this.#arenas : [this.#limits.only]) {
      const offset = arena.offsetOf(address, isTagged);
      if (offset === undefined) continue;
      const full = arena.base + BigInt(offset);
      const bytes = read({ btf, id: targetId }, (size) => arena.read(offset, size));
      if (bytes === undefined) return undefined;
      const typeText = declaration(btf, targetId, "");
      return { address: full, arena, offset, typeText, type: { btf, id: targetId }, depth, bytes };
    }
    if (this.#limits.only !== undefined || address >> 63n === 0n || this.#state.readKernel === undefined)
      return undefined;
    const type = this.#kernelType(btf, targetId);
    const bytes = read(type, (size) => {
      const answer = this.#state.readKernel?.(address, size);
      return answer?.ok === true ? answer.value : undefined;
    });
    if (bytes === undefined) return undefined;
    return {
      address,
      arena: undefined,
      offset: 0,
      typeText: declaration(type.btf, type.id, ""),
      type,
      depth,
      bytes,
    };
  }

  /** Returns the kernel's own type of the same name: a program may declare only some members of a kernel struct. */
  #kernelType(btf: Btf, id: number): TypeRef {
    const kernel = this.#kernelBtf();
    const own = btf.resolve(id);
    const kind = btf.kind(own);
    const name = btf.typeName(own).replace(/___.*$/, "");
    if (kernel === undefined || btf === kernel || name === "") return { btf, id };
    if (kind !== BTF_KIND.STRUCT && kind !== BTF_KIND.UNION) return { btf, id };
    const theirs = kernel.find(name, kind);
    return theirs === undefined ? { btf, id } : { btf: kernel, id: theirs };
  }

  #kernelBtf(): Btf | undefined {
    if (this.#kernel === null) {
      const kernel = this.#state.kernelBtf();
      this.#kernel = kernel.ok ? kernel.value : undefined;
    }
    return this.#kernel;
  }
}

function read({ btf, id }: TypeRef, bytes: (size: number) => Uint8Array | undefined): Uint8Array | undefined {
  const size = btf.sizeOf(id);
  return size === 0 || size > MAX_TARGET_BYTES ? undefined : bytes(size);
}

/** Orders objects depth first. Uses an explicit stack, because a list is as deep as it is long. */
function inOrder(roots: readonly Node[]): Target[] {
  const targets: Target[] = [];
  const pending = [...roots].reverse();
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    targets.push(node.target);
    for (let n = node.children.length - 1; n >= 0; n--) pending.push(node.children[n]!);
  }
  return targets;
}
