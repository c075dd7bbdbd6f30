"""REST derived from the contracts: google.api.http says where, proto3 JSON how, the descriptors what."""
