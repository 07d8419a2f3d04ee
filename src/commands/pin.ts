import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { KtstrError, UsageError } from "../errors.ts";
import { pinByName } from "../live/pin.ts";
import { log } from "../log.ts";
import { printable } from "../text.ts";
import { type Command, command } from "./command.ts";

const pin: Command = command({
  name: "ktstr pin",
  description: "Hold a map open by name, so that it outlives its owner",
  grammar: "NAME [-- COMMAND ...]",
  examples: [
    "ktstr pin scx_simple.bss                       # until Ctrl-C",
    "ktstr pin scx_simple.bss -- ./swap-scheduler   # while the command runs; returns its exit status",
  ],
  async start(context) {
    const [name, ...rest] = context.words;
    if (name === undefined) throw new UsageError("pin: no map name given");
    if (rest.length > 0) {
      throw new UsageError(`pin ${name}: unexpected arguments: ${rest.join(" ")}`, {
        hint: "write a command after `--`",
      });
    }
    if (context.options.memory.length > 0)
      throw new UsageError("pin: maps of a frozen machine cannot be held");
    using held = pinByName(name);
    const { info, alsoNamed } = held;
    const others = alsoNamed.length === 0 ? "" : `; others with this name: ${alsoNamed.join(", ")}`;
    const [program, ...args] = context.tail ?? [];
    const signalled = program === undefined ? untilSignal() : undefined;
    log.info(`holding map ${info.id} (${printable(info.name)})${others}`);
    // Awaited here: `using` releases the map when this function returns.
    return await (signalled ?? run(program ?? "", args));
  },
});

export default pin;

/** Signals that would end this process and release the map. SIGKILL cannot be caught. */
const SIGNALS = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2"] as const;
/** Signals of a terminal's keys (termios(3): VINTR, VQUIT), which go to the whole foreground process group. */
const FROM_KEYS: readonly string[] = ["SIGINT", "SIGQUIT"];

function untilSignal(): Promise<number> {
  return new Promise((resolve) => {
    const alive = setInterval(() => {}, 2 ** 30);
    const stop = (): void => {
      clearInterval(alive);
      resolve(0);
    };
    for (const signal of SIGNALS) process.once(signal, stop);
  });
}

/** Runs the command with this process's standard streams, forwards signals to it, and returns its exit status. */
function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess | undefined;
    // Installed before the start of the command: a signal in between would end this process and release the map.
    for (const signal of SIGNALS)
      process.on(signal, () => {
        if (!(FROM_KEYS.includes(signal) && isForeground())) child?.kill(signal);
      });
    child = spawn(command, args, { stdio: "inherit" });
    child.once("error", (error: NodeJS.ErrnoException) => {
      const cause = error.code === "ENOENT" ? "there is no such command" : error.message;
      reject(new KtstrError(`${command}: ${cause}`));
    });
    child.once("exit", (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

/** True if this process group has the terminal: the command is in the group and got the key's signal already. */
function isForeground(): boolean {
  try {
    // proc_pid_stat(5): after the name, which may contain blanks: state, ppid, pgrp, session, tty_nr, tpgid.
    const stat = readFileSync("/proc/self/stat", "latin1");
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return group === foreground;
  } catch {
    return false;
  }
}
