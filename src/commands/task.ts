import { type Command, command, described } from "./command.ts";

const task: Command = command({
  name: "ktstr task",
  description: "Tasks, and their kernel stacks",
  examples: ["ktstr task stack pid 1 --memory mem"],
  subCommands: {
    show: described(
      "List tasks: class, policy, state, cgroup, wait on sched_ext",
      async () => (await import("./task-show.ts")).default,
    ),
    stack: described("Print a task's kernel stack", async () => (await import("./task-stack.ts")).default),
  },
});

export default task;
