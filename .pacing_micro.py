import asyncio, sys, time, psutil, os
from datetime import datetime, UTC, timedelta
from uuid import uuid4
from tests.support.servers import RealServers
from shared.database import Database
from shared.events import *
from services.scheduler.bulk_store import BulkStore
from services.scheduler.pacing_store import *
from services.scheduler.pacing.rows import *
from services.scheduler.pacing.messages import Writer, list_places
from services.scheduler.pacing.results import Results, read_result
from services.scheduler.pacing.fairness import share_out
from shared.batching import Record
from tests.bench.mails import make_mail
import orjson
def pgcpu():
    t=0
    for p in psutil.process_iter(["name"]):
        if p.info["name"]=="postgres":
            try:
                c=p.cpu_times(); t+=c.user+c.system
            except psutil.Error: pass
    return t
class M:
    def __init__(self,n): self.n=n
    def __enter__(self): self.c=time.process_time(); self.p=pgcpu(); self.w=time.time(); return self
    def __exit__(self,*a): pass
    def show(self,name,k): print(f"{name:12} python {(time.process_time()-self.c)/k*1e6:6.1f} pg {(pgcpu()-self.p)/k*1e6:6.1f} wall {(time.time()-self.w)/k*1e6:6.1f}",flush=True)
async def main():
    s=RealServers(); name=s.create_database(); db=Database(s.postgres().database_url(name))
    N=int(sys.argv[1]); shared=sys.argv[2]=="shared"
    now=datetime.now(UTC)
    def mk(i):
        m={**make_mail(i),"priority":"bulk","batch_id":"b"}
        if shared: m={**m,"subject":"Your order {{ n }}","variables":{"n":i,"name":f"User {i}"}}
        return m
    mails=[EmailRequested.model_validate(mk(i)) for i in range(N)]
    st=BulkStore(db); ps=PacingStore(db)
    with M(N) as m:
        rows=merge_rows([keep_mail(x,now,None,2**20,i) for i,x in enumerate(mails)]); m.show("keep",N)
    with M(N) as m:
        for i in range(0,N,1000): await st.add(rows[i:i+1000])
        m.show("add",N)
    ids=[]
    await db.fetch("update scheduler.bulk_window set size=1000000")
    w=Writer("t",2**20)
    wt=0
    with M(N) as m:
        bodies=None; k=0
        while k<N:
            v=await ps.look(); sh=share_out(500,v.claims)
            g,q=await ps.take(sh,v.stuck,timedelta(seconds=30),timedelta(hours=1),timedelta(hours=2))
            b=await ps.load_contents(list_places(q))
            t=time.process_time(); ms=w.write(g.id,q,b,now); wt+=time.process_time()-t
            await ps.finish(g); k+=len(q); ids+=[str(x.id) for x in q]
        m.show("hand out",N)
    print("  write",wt/N*1e6, len(ms), ms[0].value[:300], len(ms[0].value))
    val={'id': 'x', 'account': 'default', 'metadata': {}, 'tags': [], 'batch_id': 'b', 'paced': True, 'attempt': 1, 'outstanding': 0, 'complete': True, 'digest': '4efe806eb2a69c70d53f92814d24617d', 'recipients': ['u0-3@y.org'], 'message_id': '<146ae7bd-f148-51f9-9722-b97c72b387f4@x.org>', 'relay': '127.0.0.1:32801', 'response': '250 2.0.0 queued as SCRIPTED', 'sent_at': '2026-11-28T19:40:20.847Z', 'outcomes': [{'address': 'u0-3@y.org', 'state': 'sent', 'attempt': 1}]}
    recs=[Record("email.sent",0,i,0,orjson.dumps({**val,"id":x}),(("ce_specversion",b"1.0"),("ce_type",b"email.sent"))) for i,x in enumerate(ids)]
    r=Results(ps)
    with M(N) as m:
        for i in range(0,N,500): await r.handle(recs[i:i+500])
        m.show("settle",N)
    t=time.process_time()
    for x in recs: read_result(x)
    print("  parse",(time.process_time()-t)/N*1e6)
    print((await st.report(rows[0].lane)).counts)
    await db.close(); s.stop()
asyncio.run(main())
