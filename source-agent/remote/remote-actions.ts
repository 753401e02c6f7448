// What the DR site may do with a VM of the primary site, which only the primary site decides
// (channel.md § 5). Nothing is allowed that nobody named.

export const REMOTE_ACTIONS = ['shutdown', 'start', 'failback'] as const;
export type RemoteAction = (typeof REMOTE_ACTIONS)[number];
