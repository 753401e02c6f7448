// A key may name the one store that its source's data may go to (channel.md § 1). Whoever answers
// has proved to hold the key; that it is also the store that was meant is found out here: a copied
// key ring, a second receiver, or a store that was made anew behind the old address are not.

import { guidToWire, parseGuid, randomGuid } from '../shared/bytes/index.js';
import type {
  DescribeResponse,
  ReplicationService,
  ServiceClient,
} from '../shared/channel/index.js';
import type { Random } from '../shared/clock.js';
import { DrError } from '../shared/errors.js';
import { receiverView } from './receiver-view.js';

type Client = ServiceClient<ReplicationService>;

export interface StorePin {
  /** As the key file has it. */
  readonly storeId: string;
  readonly keyId: string;
  /** The receiver's address, for messages. */
  readonly place: string;
}

/**
 * `client` once its receiver has said that it is the store of the pin; asked with a random id, so
 * that a wrong one learns nothing of a VM. Later descriptions are held against the pin as well,
 * because a connection makes new sessions inside.
 * @throws DrError E_AUTH, and what a call may fail with
 */
export async function pinToStore(client: Client, pin: StorePin, random: Random): Promise<Client> {
  const pinned: Client = {
    ...client,
    describe: async (request, options) => checked(await client.describe(request, options), pin),
  };
  await pinned.describe({ vmId: guidToWire(randomGuid(random)), vmName: '' });
  return pinned;
}

function checked(response: DescribeResponse, pin: StorePin): DescribeResponse {
  const { storeId: answered } = receiverView(response);
  const { storeId: expected, keyId, place } = pin;
  if (answered === parseGuid(expected)) return response;
  throw new DrError(
    'E_AUTH',
    `the key ${keyId} is for the store ${expected}, but the store at ${place} is ${answered}`,
    {
      context: { keyId, expected, answered, place },
      done: 'nothing was sent',
      hint: 'Give the address of the right receiver. If its store was made anew, make a key for it: `hvdr psk generate --receiver-id ID`; `hvdr status --json` there shows the id as storeId.',
    },
  );
}
