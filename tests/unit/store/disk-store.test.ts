/** The store on disk against the contract. */

import { storeContract } from '../../contract/store.contract.ts'
import { openTestStore } from '../../support/store-fixture.ts'

storeContract('the disk store', folder => openTestStore(folder))
