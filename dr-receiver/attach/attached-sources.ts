// The agents of primary sites that hold a call open, and which of them answers for a VM: the one of the
// VM's owner, or of an operator, that came last. One that came before answers again when the last one
// has gone: `hvdr daemon` stays attached while a command at the same site runs with an agent of its own.

import type { Guid } from '../../shared/bytes/index.js';
import type { SourceSite, SourceSites } from '../failover/ports.js';
import type { AttachedVm } from './attached-vm.js';
import type { Attachment } from './attachment.js';

/** Of one principal; what a broken connection leaves is found out within a minute. */
const ATTACHMENTS_MAX = 16;

export class AttachedSources implements SourceSites {
  /**
   * Told what an agent says of a VM that it may answer for, when it comes and whenever that changes.
   * From then on find() gives the agent. Must not wait for orders before it returns.
   */
  onClaim: ((vmId: Guid, vm: AttachedVm) => void) | undefined;
  /** The newest last. */
  #attachments: readonly Attachment[] = [];
  #isClosed = false;

  find(vmId: Guid, owner: string): SourceSite | undefined {
    return this.#attachments.findLast((each) => each.isFor(owner) && each.vms.has(vmId));
  }

  add(attachment: Attachment): void {
    if (this.#isClosed) {
      attachment.end();
      return;
    }
    this.#attachments = [...this.#attachments, attachment];
    const { principal } = attachment.caller;
    const own = this.#attachments.filter(({ caller }) => caller.principal === principal);
    if (own.length > ATTACHMENTS_MAX) own[0]?.end();
  }

  remove(attachment: Attachment): void {
    this.#attachments = this.#attachments.filter((each) => each !== attachment);
    attachment.end();
  }

  /** Ends all calls in peace; the agents come again to whoever listens next. */
  close(): void {
    this.#isClosed = true;
    for (const attachment of this.#attachments) attachment.end();
  }
}
