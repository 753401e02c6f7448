// What Bacula says about the job that a backend serves (ptcomm.md § 3.2). Checked where it is read.

export type JobType = 'B' | 'R' | 'E';

export type JobLevel = 'F' | 'I' | 'D';

/** Whether a restore may replace a file: always, when newer, never, when older. */
export type ReplaceRule = 'a' | 'w' | 'n' | 'o';

export interface JobInfo {
  /** Unique: `<job>.<date>_<time>_<nn>`; `-Console-.…` for what a console asks. */
  readonly name: string;
  /** 0 for what a console asks. */
  readonly jobId: number;
  /** Backup, restore; E: estimate, listing, query. */
  readonly type: JobType;
  /** undefined: restore, listing, query. */
  readonly level: JobLevel | undefined;
  /** Start of the reference job, seconds since 1970; undefined for a Full. */
  readonly sinceSeconds: number | undefined;
  /** Unique name of the reference job; empty for a Full and where Bacula does not say it. */
  readonly prevJobName: string;
  /** Prefix of a restore; empty: the operator asked for `/`, or it is no restore. */
  readonly where: string;
  readonly regexWhere: string;
  /** undefined: it is no restore. */
  readonly replace: ReplaceRule | undefined;
  /** `@hyperv`; as it was said, empty when the adapter does not say it. */
  readonly namespace: string;
  readonly isAccurate: boolean;
  /** The file daemon's working directory, where it is told. */
  readonly workingFolder: string | undefined;
}
