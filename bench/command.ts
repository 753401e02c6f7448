// A command line of a bench: ours or a peer's.

export interface Command {
  readonly program: string;
  readonly arguments: readonly string[];
  /** File that takes stdout; without it stdout is discarded. */
  readonly output?: string;
  readonly folder?: string;
  /** Besides those of the bench. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A command as a person would type it, for messages and documents. */
export function commandLine(command: Command): string {
  const quote = (text: string): string =>
    /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
  const line = [command.program, ...command.arguments].map(quote).join(' ');
  return command.output === undefined ? line : `${line} > ${quote(command.output)}`;
}
