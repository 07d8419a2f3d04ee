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
  description: "Hold a map open by its name, so that its owner's exit does not take it away",
  grammar: "NAME [-- COMMAND ...]",
  examples: [
    "ktstr pin scx_simple.bss                       # until Ctrl-C",
    "ktstr pin scx_simple.bss -- ./swap-scheduler   # while the command runs; its exit status is ours",
  ],
  async start(context) {
    const [name, ...rest] = context.words;
    if (name === undefined) throw new UsageError("pin: the name of which map?");
    if (rest.length > 0) {
      throw new UsageError(`pin ${name}: too much: ${rest.join(" ")}`, {
        hint: "a command stands behind `--`",
      });
    }
    if (context.options.memory.length > 0)
      throw new UsageError("pin: nothing goes away from a frozen machine");
    using held = pinByName(name);
    const { info, alsoNamed } = held;
    const others = alsoNamed.length === 0 ? "" : `; also named so: ${alsoNamed.join(", ")}`;
    const [program, ...args] = context.tail ?? [];
    const signalled = program === undefined ? untilSignal() : undefined;
    log.info(`holding map ${info.id} (${printable(info.name)})${others}`);
    // Awaited here: `using` lets the map go as soon as this function returns.
    return await (signalled ?? run(program ?? "", args));
  },
});

export default pin;

/** What would end us and let the map go. SIGKILL does, and cannot be kept from it. */
const SIGNALS = ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2"] as const;
/** What a terminal's keys send (termios(3): VINTR, VQUIT), to every process of its foreground group. */
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

/** Runs the command with our own standard streams. Signals go to it; we end when it does, as a shell would tell it. */
function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess | undefined;
    // Before it is there: a signal between its start and ours would end us alone, and let the map go.
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

/** Whether our process group has the terminal: then its keys reached the command, which is in our group, already. */
function isForeground(): boolean {
  try {
    // proc_pid_stat(5): behind the name, which may hold blanks, state, ppid, pgrp, session, tty_nr, tpgid.
    const stat = readFileSync("/proc/self/stat", "latin1");
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return group === foreground;
  } catch {
    return false;
  }
}
