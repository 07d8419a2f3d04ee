/** Records the pages that are read and the symbols that are looked up while a capture is made. */
import type { NearSymbol, Symbols } from "../kernel/symbols.ts";
import { hex, type Pointer } from "../memory/pointer.ts";
import { TouchedPages } from "./pages.ts";

export class Recorder {
  readonly pages: TouchedPages = new TouchedPages();
  readonly addresses: Map<string, Pointer | undefined> = new Map();
  readonly nearest: Map<string, NearSymbol | undefined> = new Map();

  symbols(of: Symbols): Symbols {
    return {
      source: of.source,
      count: of.count,
      address: (name) => remember(this.addresses, name, () => of.address(name)),
      nearest: (at) => remember(this.nearest, hex(at.hi, at.lo), () => of.nearest(at)),
    };
  }
}

function remember<T>(known: Map<string, T>, key: string, find: () => T): T {
  const found = known.get(key) ?? find();
  known.set(key, found);
  return found;
}
