/** Finds the guest's RAM among the mappings of QEMU's process, by QEMU's arguments and its memory map. */
import type { Mapping } from "./ram.ts";

const sizeIn = (text: string): number | undefined => {
  const [, digits, unit = ""] = /^(\d+)([KMGT]?)/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * 1024 ** ("KMGT".indexOf(unit.toUpperCase() || "M") + 1);
};

/** Returns the size in QEMU's `-m` argument in bytes; MiB if it has no unit. Undefined if there is no such argument. */
export function memoryArgument(words: readonly string[]): number | undefined {
  const at = words.indexOf("-m");
  return sizeIn(/^(?:size=)?(.*)/.exec(at < 0 ? "" : (words[at + 1] ?? ""))?.[1] ?? "");
}

/** A NUMA node with a memory object of its own. */
export interface Node {
  /** The memory object's id. */
  readonly id: string;
  readonly sizeBytes: number;
  /** "memory-backend-ram", "memory-backend-memfd" or "memory-backend-file". */
  readonly kind: string;
  /** The file's path or its folder; undefined if it is not a file. */
  readonly path: string | undefined;
  /** The object's place in the arguments. QEMU maps objects in this order. */
  readonly order: number;
}

/** Limit of QEMU (include/sysemu/numa.h, MAX_NODES). */
const MAX_NODES = 128;

/** Parses "a,id=b" as { "": "a", id: "b" }, or a JSON object, as libvirt writes it. */
function optionsIn(text: string): ReadonlyMap<string, string> {
  if (text.startsWith("{"))
    try {
      const fields = Object.entries(JSON.parse(text) as object);
      return new Map(fields.map(([key, value]) => [key === "qom-type" ? "" : key, String(value)]));
    } catch {
      return new Map();
    }
  // A comma within a value is written twice.
  const parts = text.split(/(?<!,),(?!,)/).map((part) => part.replaceAll(",,", ","));
  return new Map(
    parts.map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? ["", part] : [part.slice(0, at), part.slice(at + 1)];
    }),
  );
}

/** The values of an option that can be given several times. */
const valuesOf = (words: readonly string[], option: string): string[] =>
  words.flatMap((word, at) => (word === option ? [words[at + 1] ?? ""] : []));

/** Parses a size. Without a unit it is in bytes, unlike in `-m`. */
function objectBytes(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : sizeIn(text);
}

/** Returns the NUMA nodes with memory objects of their own (`-numa node,memdev=ID`), in their order. */
export function nodesIn(words: readonly string[]): Node[] {
  const objects = valuesOf(words, "-object").map(optionsIn);
  const nodes: (Node | undefined)[] = [];
  for (const options of valuesOf(words, "-numa").map(optionsIn)) {
    if (options.get("") !== "node" && options.get("type") !== "node") continue;
    const given = options.get("nodeid");
    const number = given === undefined ? nodes.length : Number(given);
    const order = objects.findIndex((object) => object.get("id") === options.get("memdev"));
    const object = objects[order];
    const sizeBytes = objectBytes(object?.get("size") ?? "");
    if (object === undefined || sizeBytes === undefined || !(number >= 0 && number < MAX_NODES)) continue;
    nodes[number] = {
      id: object.get("id") ?? "",
      sizeBytes,
      kind: object.get("") ?? "",
      path: object.get("mem-path"),
      order,
    };
  }
  return nodes.filter((node) => node !== undefined);
}

/** Returns whether a mapping's name is this path, which can be relative, or a file in this folder. */
function isAt(name: string, path: string): boolean {
  const file = name.replace(/ \(deleted\)$/, "");
  return file === path || file.endsWith(`/${path}`) || file.startsWith(`${path.replace(/\/$/, "")}/`);
}

/**
 * Returns each node's mapping, or why one is not found. `addressOf` returns an address in a node's memory, if QEMU can be
 * asked. Without it, nodes of the same size and kind are distinguished by their files, else by their addresses: Linux maps
 * from high addresses to low ones.
 */
export function chooseNodes(
  mappings: readonly Mapping[],
  nodes: readonly Node[],
  addressOf?: (id: string) => number | undefined,
): readonly Mapping[] | string {
  const chosen = new Map<Node, Mapping>();
  const free = new Set(mappings.toSorted((a, b) => b.start - a.start));
  const isLike = (node: Node, { length, name, inode }: Mapping): boolean => {
    if (length !== node.sizeBytes) return false;
    if (node.path !== undefined) return isAt(name, node.path);
    return node.kind === "memory-backend-memfd"
      ? name.startsWith("/memfd:")
      : inode === 0 || name.startsWith("/dev/zero");
  };
  for (const node of nodes.toSorted((a, b) => a.order - b.order)) {
    const address = addressOf?.(node.id);
    const fitting = [...free].filter((mapping) =>
      address === undefined
        ? isLike(node, mapping)
        : mapping.length === node.sizeBytes &&
          address >= mapping.start &&
          address < mapping.start + mapping.length,
    );
    const alike = nodes.filter(
      (each) =>
        !chosen.has(each) &&
        each.kind === node.kind &&
        each.path === node.path &&
        each.sizeBytes === node.sizeBytes,
    );
    const [mapping] = fitting;
    if (mapping === undefined)
      return `no mapping matches the memory object ${JSON.stringify(node.id)} of ${node.sizeBytes} bytes`;
    if (address === undefined && fitting.length > alike.length)
      return `${fitting.length} mappings match the memory object ${JSON.stringify(node.id)}; give QEMU's QMP socket`;
    chosen.set(node, mapping);
    free.delete(mapping);
  }
  return nodes.map((node) => chosen.get(node)!);
}

/**
 * Returns a guest-physical address in the memory object `id`, from the output of QEMU's `info mtree -f`: lines such as
 * "0000000100000000-000000013fffffff (prio 0, ram): m0 @0000000080000000".
 */
export function placeIn(map: string, id: string): number | undefined {
  const view = map.split(/^FlatView/m).find((part) => part.includes("Root memory region: system\n")) ?? "";
  for (const [, start = "", name = ""] of view.matchAll(
    /^\s*([0-9a-f]{16})-[0-9a-f]{16} \(prio -?\d+, ram\): (.*?)(?: @[0-9a-f]{16})?(?: KVM)?\s*$/gm,
  ))
    if (name === id || name.endsWith(`/${id}`)) return Number.parseInt(start, 16);
  return undefined;
}
