import { type Command, command } from "./command.ts";

const task: Command = command({
  name: "ktstr task",
  description: "Tasks, and their kernel stacks",
  examples: ["ktstr task stack pid 1 --memory mem"],
  subCommands: {
    show: async () => (await import("./task-show.ts")).default,
    stack: async () => (await import("./task-stack.ts")).default,
  },
});

export default task;
