"""Domains in nova's form.

Sources: `LibvirtConfigGuestMetaNovaInstance` in nova/virt/libvirt/config.py (openstack/nova); XML of nova 25.1.0 in a mail to QEMU's list
in March 2023; and for a flavor's id and extra specs, test_flavor_metadata.py of openstack/whitebox-tempest-plugin.
Names and ids are made up.
"""

NEW = """
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="32.0.0"/>
      <nova:name>shop-db</nova:name>
      <nova:creationTime>2025-11-02 08:14:31</nova:creationTime>
      <nova:flavor name="m1.large" id="4f0d6b9e-52a1-4c7a-8d3e-2b1f5a90c6d7">
        <nova:memory>8192</nova:memory>
        <nova:disk>80</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>4</nova:vcpus>
        <nova:extraSpecs>
          <nova:extraSpec name="hw:cpu_policy">shared</nova:extraSpec>
        </nova:extraSpecs>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid="0b7c1f2e3d4a5968877665544332211f">alice</nova:user>
        <nova:project uuid="9c1d2e3f40516273849506a7b8c9d0e1">acme</nova:project>
      </nova:owner>
      <nova:root type="image" uuid="5d2b0e6c-7f14-4f0f-9c1e-6a1f0f3d2b77"/>
      <nova:ports>
        <nova:port uuid="b8f4a0ce-0f7a-4a43-9d37-5f0f7cf2a1c3">
          <nova:ip type="fixed" address="10.0.0.17" ipVersion="4"/>
        </nova:port>
      </nova:ports>
    </nova:instance>
"""
"""Metadata of an instance of a newer nova."""


def domain(metadata: str) -> str:
    """Return a domain with this metadata."""
    return f"""<domain type='kvm' id='3'>
  <name>instance-0000002a</name>
  <uuid>e1e5c1c0-1234-4678-9abc-def012345678</uuid>
  <metadata>{metadata}</metadata>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>8388608</currentMemory>
  <devices>
    <memballoon model='virtio' autodeflate='on' freePageReporting='on'>
      <stats period='10'/>
    </memballoon>
  </devices>
</domain>"""
