import { type Command, command } from "./command.ts";

const sched: Command = command({
  name: "ktstr sched",
  description: "sched_ext: why tasks wait, dispatch queues, CPUs, events",
  examples: ["ktstr sched explain stall.log"],
  subCommands: {
    explain: async () => (await import("./sched-explain.ts")).default,
  },
});

export default sched;
