import { UsageError } from "../errors.ts";
import { PlaceNames, placeJson, placeText } from "../report/symbol.ts";
import { type Command, command } from "./command.ts";
import { printList } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

/** Parses a kernel address: hexadecimal, with or without 0x, as in /proc/kallsyms and stack traces. Throws `UsageError`. */
function addressOf(word: string): bigint {
  if (!/^(0x)?[0-9a-f]{1,16}$/i.test(word))
    throw new UsageError(`symbol ${JSON.stringify(word)}: not an address`, {
      hint: "for example `ktstr symbol ffffffff81000000`",
    });
  return BigInt(word.replace(/^(0x)?/i, "0x"));
}

const symbol: Command = command({
  name: "ktstr symbol",
  description: "Print the symbol at an address, and the source line of a BPF program's machine code",
  grammar: "ADDRESS ...",
  examples: ["ktstr symbol ffffffff81000000", "ktstr -j symbol 0xffffffffc0201234 --memory mem"],
  async start(context) {
    if (context.words.length === 0) throw new UsageError("symbol: no address given");
    const addresses = context.words.map(addressOf);
    using source = await openSource(context.options, () => false);
    const names = new PlaceNames(source.state);
    const places = addresses.map((address) => names.at(address));
    printList(context, places, placeJson, placeText, true);
    warnAll(context, source.state);
    return places.every(({ symbol: name }) => name !== undefined) ? 0 : 1;
  },
});

export default symbol;
