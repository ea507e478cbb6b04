"""The pieces that molecules are built from, as SMILES; `*` marks the atom of an attachment."""

from __future__ import annotations

# Rings and chains that carry substituents, by class.
CORES: dict[str, tuple[str, ...]] = {
    "alkane": ("C", "CC", "CCC", "CCCC", "CC(C)C", "CCCCC", "CCC(C)C", "CC(C)(C)C", "CCCCCC", "CC(C)C(C)C"),
    "unsaturated chain": (
        "C=C", "CC=C", "C/C=C/C", "C/C=C\\C", "CC(C)=C", "C=CC=C", "C=C=C", "C#C", "CC#C", "CC#CC", "C=CC#C",
        "C#CC#C", "C=CCC=C", "CC=CC=C",
    ),
    "carbocycle": (
        "C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "C1CCCCCC1", "C1=CCCCC1", "C1=CCCC1", "C1=CCC=C1", "C1CC2CC1CC2",
        "C1CC2(C1)CC2", "C1C=CC1", "C1=CCC=CC1", "C1CC2CCC1C2", "C=C1CCCC1", "C1CC12CC2", "C1CCC2CCCC2C1",
    ),
    "saturated heterocycle": (
        "C1CO1", "C1CN1", "C1CS1", "C1COC1", "C1CNC1", "C1CSC1", "C1CCOC1", "C1CCNC1", "C1CCSC1", "C1CCOCC1",
        "C1CCNCC1", "C1CCSCC1", "C1COCCN1", "C1CNCCN1", "C1COCCO1", "C1OCCO1", "C1SCCN1", "C1SCCS1", "C1CSSC1",
        "C1CCNNC1", "C1CON=C1", "C1CN=CN1", "C1CC=NC1", "C1CCNCCC1", "C1CSCCN1",
    ),
    "cyclic carbonyl": (
        "O=C1CCC1", "O=C1CCCC1", "O=C1CCCCC1", "O=C1CCCO1", "O=C1CCCCO1", "O=C1CCO1", "O=C1CCN1", "O=C1CCCN1",
        "O=C1CCCCN1", "O=C1CCC(=O)N1", "O=C1CCC(=O)O1", "O=C1C=CC(=O)N1", "O=C1C=CC(=O)C=C1", "O=C1C=CCCC1",
        "O=C1NCCN1", "O=C1OCCO1", "O=C1OCCN1", "O=C1CNC(=O)N1", "O=C1CSC(=O)N1", "O=C1CNC(=O)CN1", "O=C1C=COC=C1",
        "O=C1C=CC=CN1", "O=C1C=CC=CO1", "O=C1C=CNC=C1", "O=C1CC(=O)NC(=O)N1", "O=C1NC=CC(=O)N1", "O=C1C=CNC(=O)N1",
        "S=C1CCCN1", "S=C1NCCN1", "O=S1(=O)CCCC1", "O=S1(=O)CCCN1", "O=S1CCCC1",
    ),
    "benzene": ("c1ccccc1",),
    "six-membered heteroaromatic": ("c1ccncc1", "c1cncnc1", "c1cnccn1", "c1ccnnc1", "c1ncncn1", "c1nncnc1"),
    "five-membered heteroaromatic": (
        "c1cc[nH]c1", "c1ccoc1", "c1ccsc1", "c1c[nH]cn1", "c1cn[nH]c1", "c1cocn1", "c1cscn1", "c1cnoc1", "c1cnsc1",
        "c1nc[nH]n1", "c1c[nH]nn1", "c1nnc[nH]1", "c1nnn[nH]1", "c1nnco1", "c1nncs1", "c1ncon1", "c1ncsn1",
        "c1conn1",
    ),
    "fused aromatic": (
        "c1ccc2ccccc2c1", "c1ccc2[nH]ccc2c1", "c1ccc2occc2c1", "c1ccc2sccc2c1", "c1ccc2ncccc2c1", "c1ccc2cnccc2c1",
        "c1ccc2[nH]cnc2c1", "c1ccc2ocnc2c1", "c1ccc2scnc2c1", "c1ccc2[nH]ncc2c1", "c1ccc2nccnc2c1", "c1ccc2ncncc2c1",
        "c1ccc2nnccc2c1", "c1ncc2nc[nH]c2n1", "c1ccn2ccnc2c1", "c1ccc2c(c1)CCC2", "c1ccc2c(c1)CCN2",
        "c1ccc2c(c1)OCO2", "c1ccc2c(c1)CCO2", "c1ccc2c(c1)CCCC2", "c1cnc2[nH]ccc2c1", "c1ccn2nccc2c1",
        "c1ccc2[nH]nnc2c1", "c1cc2sccc2s1", "O=c1ccc2ccccc2o1", "O=C1NC(=O)c2ccccc21", "O=C1Cc2ccccc2N1",
        "O=c1cc[nH]c2ccccc12", "C1=Cc2ccccc2C1", "c1cc2cccc-2c1", "c1ccc2cccc-2cc1",
    ),
}  # fmt: skip

# Functional groups with one open bond, by kind.
SUBSTITUENTS: dict[str, tuple[str, ...]] = {
    "alkyl": ("*C", "*CC", "*C(C)C", "*C(C)(C)C", "*C1CC1", "*CCC", "*CC(C)C"),
    "alkenyl": ("*C=C", "*/C=C/C", "*CC=C", "*C(C)=C"),
    "alkynyl": ("*C#C", "*C#CC", "*CC#C"),
    "alcohol": ("*O", "*CO", "*CCO", "*C(C)O"),
    "ether": ("*OC", "*OCC", "*COC", "*OC(C)C", "*OC=C"),
    "aldehyde": ("*C=O", "*CC=O"),
    "ketone": ("*C(C)=O", "*CC(C)=O", "*C(=O)CC"),
    "acid": ("*C(=O)O", "*CC(=O)O", "*/C=C/C(=O)O"),
    "ester": ("*C(=O)OC", "*OC(C)=O", "*OC=O", "*CC(=O)OC", "*COC(C)=O", "*C(=O)OCC"),
    "anhydride and carbonate": ("*C(=O)OC(C)=O", "*OC(=O)OC"),
    "amide": ("*C(N)=O", "*C(=O)NC", "*C(=O)N(C)C", "*NC(C)=O", "*NC=O", "*N(C)C(C)=O", "*CC(N)=O", "*CNC(C)=O"),
    "urea and carbamate": ("*NC(N)=O", "*NC(=O)NC", "*NC(=O)OC", "*OC(N)=O", "*OC(=O)NC"),
    "imide": ("*C(=O)NC(C)=O",),
    "amine": ("*N", "*NC", "*N(C)C", "*CN", "*CNC", "*CCN", "*CN(C)C", "*NCC"),
    "imine": ("*C=N", "*/C=N/C", "*C(C)=N", "*N=C", "*N=CC"),
    "amidine and guanidine": ("*C(=N)N", "*NC(=N)N", "*N=CN(C)C"),
    "oxime": ("*/C=N/O", "*/C(C)=N/O", "*/C=N/OC"),
    "hydrazine and hydroxylamine": ("*NN", "*N(C)N", "*/C=N/N", "*NO", "*N(C)O", "*NOC", "*ON", "*C(=O)NN", "*C(=O)NO"),
    "nitrile": ("*C#N", "*CC#N", "*C=CC#N"),
    "isocyanate": ("*N=C=O", "*N=C=S", "*SC#N", "*OC#N", "*[N+]#[C-]"),
    "nitro and nitroso": ("*[N+](=O)[O-]", "*C[N+](=O)[O-]", "*N=O", "*O[N+](=O)[O-]", "*ON=O"),
    "azide and azo": ("*N=[N+]=[N-]", "*/N=N/C", "*CN=[N+]=[N-]"),
    "thiol": ("*S", "*CS", "*CCS"),
    "sulfide": ("*SC", "*CSC", "*SCC", "*SC=C", "*CCSC"),
    "disulfide": ("*SSC", "*CSSC"),
    "sulfoxide": ("*S(C)=O", "*CS(C)=O"),
    "sulfone": ("*S(C)(=O)=O", "*S(=O)(=O)C=C", "*CS(C)(=O)=O"),
    "sulfonic": ("*S(=O)(=O)O", "*S(=O)(=O)OC", "*OS(C)(=O)=O", "*S(=O)(=O)F", "*S(=O)(=O)Cl"),
    "sulfonamide": ("*S(N)(=O)=O", "*S(=O)(=O)NC", "*NS(C)(=O)=O", "*S(=O)(=O)N(C)C"),
    "thiocarbonyl": ("*C(N)=S", "*C(=S)NC", "*NC(N)=S", "*C(=O)SC", "*SC(C)=O", "*C(C)=S", "*C=S", "*C(=S)SC"),
    "fluorine": ("*F", "*F", "*CF", "*C(F)F", "*C(F)=C", "*OC(F)F"),
    "trifluoro": ("*C(F)(F)F", "*OC(F)(F)F", "*SC(F)(F)F", "*CC(F)(F)F", "*C(=O)C(F)(F)F"),
    "chlorine": ("*Cl", "*Cl", "*CCl", "*C(Cl)Cl", "*C(Cl)(Cl)Cl", "*C=CCl", "*CCCl"),
    "acyl halide": ("*C(=O)Cl", "*C(=O)F"),
    "peroxide": ("*OO", "*OOC"),
    "small ring": ("*C1CO1", "*C1CCC1", "*N1CCCC1", "*N1CCOCC1", "*C1CCCN1", "*N1CCC1=O", "*C1OCCO1"),
    "aryl": (
        "*c1ccccc1", "*c1ccncc1", "*c1cccnc1", "*c1ccccn1", "*c1ccco1", "*c1cccs1", "*n1cccc1", "*n1ccnc1",
        "*c1cnc[nH]1", "*c1ccc(F)cc1", "*Cc1ccccc1", "*Oc1ccccc1", "*c1ncccn1", "*c1nccs1", "*c1ccc(O)cc1",
    ),
    "amino acid": ("*CC(N)C(=O)O", "*C(N)C(=O)O", "*NCC(=O)O", "*C(=O)NCC(=O)NC"),
}  # fmt: skip

# Kinds of practice: drawn three times as often as the others.
COMMON_KINDS = frozenset({
    "alkane", "benzene", "six-membered heteroaromatic", "five-membered heteroaromatic", "alkyl", "alcohol", "ether",
    "ketone", "acid", "ester", "amide", "amine", "nitrile", "sulfide", "thiol", "fluorine", "trifluoro", "chlorine",
    "aryl", "sulfonamide", "sulfone", "urea and carbamate", "saturated heterocycle",
})  # fmt: skip

# Groups with two open bonds.
LINKERS = (
    "*C*", "*CC*", "*CCC*", "*C=C*", "*C#C*", "*O*", "*N*", "*S*", "*CO*", "*CN*", "*CS*", "*COC*", "*CNC*",
    "*C(=O)*", "*C(=O)C*", "*C(=O)N*", "*C(=O)NC*", "*C(=O)N(C)*", "*C(=O)O*", "*C(=O)OC*", "*NC(=O)N*", "*OC(=O)N*",
    "*C=N*", "*C=NN*", "*N=N*", "*C=NO*", "*C(=O)NN*", "*SS*", "*S(=O)*", "*S(=O)(=O)*", "*S(=O)(=O)N*", "*C(=S)N*",
    "*C(=O)S*", "*C(=O)NC(=O)*", "*C(O)*", "*C(N)*", "*C(F)(F)*", "*C(C)(C)*", "*OCO*", "*OCCO*", "*NCCN*", "*N(C)*",
    "*C(=O)C=C*", "**",
)  # fmt: skip

# Every molecule of this table is one of the training set; a model without them is not general.
SMALL = (
    "[H][H]", "O", "N", "C", "F", "Cl", "S", "N#N", "ClCl", "FF", "FCl", "[C-]#[O+]", "O=C=O", "S=C=O", "S=C=S",
    "C#N", "[C-]#[NH+]", "N=C=O", "N#CO", "N=C=S", "N#CS", "C=O", "C=S", "CO", "CS", "CN", "CF", "CCl", "CC", "C=C",
    "C#C", "OO", "SS", "NN", "NO", "N=N", "OF", "OCl", "NCl", "NF", "FN(F)F", "ClN(Cl)Cl", "SCl", "ClSCl", "FSF",
    "O=S=O", "O=S(=O)=O", "O=S(=O)(O)O", "O=S(F)F", "O=S(Cl)Cl", "O=S(=O)(F)F", "O=S(=O)(Cl)Cl", "FS(F)(F)(F)(F)F",
    "FS(F)(F)F", "[O-][O+]=O", "O=NO", "O=[N+]([O-])O", "ClN=O", "FN=O", "[N-]=[N+]=O", "C=[N+]=[N-]", "N=[N+]=[N-]",
    "O=CO", "NC=O", "CC#N", "C[N+]#[C-]", "CC=O", "COC", "CSC", "CNC", "CCC", "CC=C", "CC#C", "C=C=C", "C1CC1",
    "C1=CC1", "FC(F)F", "FC(F)(F)F", "ClC(Cl)Cl", "ClC(Cl)(Cl)Cl", "FCF", "ClCCl", "FCCl", "FC(F)(Cl)Cl", "FC(Cl)Cl",
    "C=C=O", "O=C=C=C=O", "N#CC#N", "C#CC#N", "C#CC#C", "O=CC=O", "O=C(F)F", "O=C(Cl)Cl", "NC(N)=O", "NC(N)=S",
    "NC(N)=N", "CC(=O)O", "CC(N)=O", "CNC=O", "CNC(C)=O", "CN(C)C=O", "CN(C)C", "CSSC", "CS(C)=O", "CS(C)(=O)=O",
    "CS(N)(=O)=O", "CS(=O)(=O)O", "C[N+](=O)[O-]", "CON=O", "CO[N+](=O)[O-]", "CN=C=O", "CN=C=S", "CSC#N",
    "CN=[N+]=[N-]", "CN=NC", "CNN", "CNO", "CON", "C=NO", "C=NN", "C=N", "CC=N", "COC=O", "CC(C)=O", "CC(C)O",
    "CCCO", "CC(C)C", "CCCC", "OCCO", "NCCN", "NCCO", "OCC(O)CO", "SCCS", "C=CO", "C=CN", "C=CF", "C=CCl", "C=CS",
    "C=CC=O", "C=CC#N", "C=CC=C", "C1CO1", "C1CN1", "C1CS1", "CC(F)(F)F", "OCC(F)(F)F", "FC(F)C(F)F", "ClC=CCl",
    "FC#CF", "ClC#CCl", "C=C(F)F", "C=C(Cl)Cl", "OC(=O)C(=O)O", "NCC(=O)O", "CC(N)C(=O)O", "CC(O)C(=O)O",
    "O=C(O)C(F)(F)F", "COOC", "COO", "CC(=O)OO", "CC(=O)Cl", "CC(=O)F", "CC(=O)OC(C)=O", "COC(=O)OC", "CC(=O)S",
    "CC(=S)N", "CSC(C)=O", "C[N+](C)(C)[O-]", "c1cc[n+]([O-])cc1", "C[S+](C)[CH2-]", "CC(=O)CC(C)=O", "OC=CC=O",
    "O=CCC=O",
)  # fmt: skip

# Molecules of life and of the laboratory whose pieces the random combinations would seldom bring together.
NAMED = (
    "Cc1c[nH]c(=O)[nH]c1=O", "Nc1cc[nH]c(=O)n1", "Nc1ncnc2[nH]cnc12", "Nc1nc2[nH]cnc2c(=O)[nH]1",
    "Cn1cnc2[nH]c(=O)[nH]c(=O)c12", "O=c1[nH]cnc2[nH]cnc12", "Cn1ccc(=O)[nH]c1=O", "Cn1cnc2c(N)ncnc21",
    "OCC1OC(O)CC1O", "OCC1OC(O)C(O)C1O", "OCC1OC(O)C(O)C(O)C1O", "CC1OC(O)C(O)C(O)C1O", "OC1CCCCO1", "COC1CCCCO1",
    "NC(=O)c1cccnc1", "NCCc1ccc(O)c(O)c1", "NCCc1c[nH]c2ccccc12", "NCCc1c[nH]cn1", "CC(=O)OCCN(C)C",
    "COc1cc(C=O)ccc1O", "Cc1ncc(CO)c(CO)c1O", "OC(=O)CC(O)(CC(=O)O)C(=O)O", "CC(O)CC(=O)O", "CC(=O)C(=O)O",
    "OC(=O)CCC(=O)O", "OC(=O)/C=C/C(=O)O", "NC(CS)C(=O)O", "NC(Cc1ccccc1)C(=O)O", "NC(CO)C(=O)O", "CC(C)C(N)C(=O)O",
    "OC(=O)C1CCCN1", "CC1=CCC(C(C)=C)CC1", "CC1(C)C2CCC1(C)C(=O)C2", "CC(C)C1CCC(C)CC1O", "CC(C)=CCCC(C)=CCO",
    "OC(=O)c1cccnc1", "CN1CCCC1c1cccnc1", "CC(=O)Nc1ccccc1", "COC(=O)c1ccccc1O", "NS(=O)(=O)c1ccc(N)cc1",
    "O=C1c2ccccc2C(=O)N1O", "COc1ccc(CC=C)cc1", "O=C(O)/C=C/c1ccccc1", "Oc1cccc2ccccc12", "CCN(CC)C(=O)c1cccc(C)c1",
    "O=S1(=O)NC(=O)c2ccccc21", "CCCCCCCC(=O)O", "CCCCCC=O", "OCCOCCO", "COCCOCCOC", "C1COCCOCCO1",
    "CC(C)(C)OC(=O)NCC(=O)O", "CN(C)c1ccncc1", "C1CN2CCN1CC2", "C1N2CN3CN1CN(C2)C3", "C1C2CC3CC1CC(C2)C3",
    "c1ccc(-c2ccccc2)cc1", "c1ccc2c(c1)[nH]c1ccccc12", "c1ccc2cc3ccccc3cc2c1", "c1ccc2nc3ccccc3cc2c1",
    "O=C1c2ccccc2C(=O)c2ccccc21", "c1cc2ccc3cccc4ccc(c1)c2c34", "Clc1ccccc1-c1ccccc1Cl", "FC(F)(F)c1cc(Cl)cnc1Cl",
    "C1=CC=CC=CC=C1", "C1CCCCCCC1", "O=C1C=CC(=O)c2ccccc21", "CSCCC(N)C(=O)O", "NC(=O)NC1NC(=O)NC1=O", "CC(=O)NCCS",
    "CC(C)(CO)C(O)C(=O)NCCC(=O)O", "O=C(O)CCCCC1SCC2NC(=O)NC12", "OCc1ccccc1O", "Cc1ncc(C)c(N)n1",
    "CC(=O)SCCNC(C)=O", "FC(F)(F)OC(F)(F)F", "FC1(F)C(F)(F)C(F)(F)C1(F)F", "Fc1c(F)c(F)c(F)c(F)c1F",
    "Clc1c(Cl)c(Cl)c(Cl)c(Cl)c1Cl", "O=S(=O)(c1ccccc1)c1ccccc1", "O=S(c1ccccc1)c1ccccc1", "c1ccc(Sc2ccccc2)cc1",
)  # fmt: skip

# Side chains of the neutral amino acids, written at the alpha carbon; glycine and proline have residues of their own.
SIDE_CHAINS = {
    "Ala": "C", "Val": "C(C)C", "Leu": "CC(C)C", "Ile": "[C@@H](C)CC", "Phe": "Cc1ccccc1", "Tyr": "Cc1ccc(O)cc1",
    "Trp": "Cc1c[nH]c2ccccc12", "Ser": "CO", "Thr": "[C@H](O)C", "Cys": "CS", "Met": "CCSC", "Asn": "CC(N)=O",
    "Gln": "CCC(N)=O", "His": "Cc1cnc[nH]1", "Hie": "Cc1c[nH]cn1", "Asp": "CC(=O)O", "Glu": "CCC(=O)O", "Lys": "CCCCN",
}  # fmt: skip
RESIDUES = {name: f"N[C@@H]({chain})C(=O)" for name, chain in SIDE_CHAINS.items()} | {
    "Gly": "NCC(=O)",
    "Pro": "N1CCC[C@H]1C(=O)",
}

# Ring systems that peptides and most molecules of practice hold: always in the training set, alone and substituted.
COMMON_SCAFFOLDS = (
    "c1ccccc1", "c1ccncc1", "c1c[nH]cn1", "c1ccc2[nH]ccc2c1", "C1CCNC1", "C1CCCCC1", "C1CCCC1", "C1CC1", "C1CO1",
    "C1CCOC1", "C1CCNCC1", "C1CCOCC1", "C1COCCN1", "c1ccoc1", "c1ccsc1", "c1cc[nH]c1", "c1cncnc1", "c1cn[nH]c1",
    "c1ccc2ccccc2c1", "O=C1CCCN1", "O=c1cc[nH]c(=O)[nH]1", "c1ncc2nc[nH]c2n1", "C1CCC1",
)  # fmt: skip

# What no combination may bring about: groups that fall apart or rearrange as soon as they are relaxed.
UNSTABLE = (
    "[OX2][OX2][OX2]", "[OX2][F,Cl,N;X2]", "[NX3][F,Cl]", "[NX3][NX3][NX3]", "[NX3][OX2][NX3]", "[NX3][NX3][OX2]",
    "[SX2][SX2][SX2]", "[OX2][SX2]", "[SX2][F,Cl]", "[NX3,OX2,SX2][CX4]([NX3,OX2,SX2])[NX3,OX2,SX2]",
    "[CX4]([OH])[OH]", "[CX4]([F,Cl])[OH,NH2,NH,SH]", "[CX4]([OH,SH])N=[N+]", "[NX3]N=[N+]=[N-]",
    "[OX2,SX2]N=[N+]=[N-]", "[OX2]C(=O)[OH]", "[NX3]C(=O)[OH]", "[NX3,OX2]N=C=[O,S]", "[OX2,SX2,NX3][N+](=O)[O-]",
    "[NX3,OX2,SX2]N=O", "[OX2][OX2][!#6;!#1]", "[OX2][OX2]C=C", "[CX4]([OX2][OX2])[OX2,NX3,SX2]",
    "C(=O)[OX2][NX3]C(=O)", "C=C[N+]#[C-]", "[N;!R]=[N;!R][N,O,S]", "[NX3,OX2,SX2][N+]#[C-]", "[OX2,NX3][SX2]",
    "[OX2]C#N", "[NX3]C#[N;X1]",
)  # fmt: skip
