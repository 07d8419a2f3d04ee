/** Imports of files by path. */
declare module "*.zst" {
  const path: string;
  export default path;
}
