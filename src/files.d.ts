/** Files that are parts of the program by their path. */
declare module "*.zst" {
  const path: string;
  export default path;
}
