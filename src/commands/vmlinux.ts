import { KtstrError, UsageError } from "../errors.ts";
import { findVmlinux, loadVmlinux } from "../guest/kernel/vmlinux.ts";
import { stringify } from "../report/json.ts";
import { escapeText } from "../text.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { refuseMemory } from "./source.ts";

const vmlinux: Command = command({
  name: "ktstr vmlinux",
  description: "Find the vmlinux (symbols and types) of a kernel image",
  grammar: "KERNEL-IMAGE",
  examples: [
    "ktstr vmlinux arch/x86/boot/bzImage",
    'ktstr --memory mem --vmlinux "$(ktstr vmlinux /boot/vmlinuz-6.12)" inspect',
  ],
  start(context) {
    refuseMemory(context.options, "vmlinux");
    const [image, ...rest] = context.words;
    if (image === undefined) throw new UsageError("vmlinux: no kernel image given");
    if (rest.length > 0) throw new UsageError(`vmlinux ${image}: unexpected arguments: ${rest.join(" ")}`);
    const path = findVmlinux(image);
    if (path === null)
      throw new KtstrError(
        `find the vmlinux of ${image}: it is not in any directory where build trees and distributions put it`,
        {
          hint: "it is optional: without it the symbols and types in the memory are used",
        },
      );
    const { out, options } = context;
    if (!options.json) {
      out.line(escapeText(path));
      return 0;
    }
    const { machine, buildId, symtab } = loadVmlinux(path)!;
    const found = { vmlinux: path, machine, build_id: buildId, symbols: symtab?.count ?? 0 };
    out.line(stringify(found, indentOf(context)));
    return 0;
  },
});

export default vmlinux;
